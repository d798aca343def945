/* adopt.h: taking over a segment that lies in a file and whose processes have all died. */
#ifndef MPB_ADOPT_H
#define MPB_ADOPT_H

#include <stdint.h>

#define MPB_MANAGED_LEFT 2u /* slot.managed: its watcher belonged to a program that has died and was not started again yet */

/* Makes the segment in fd ready for a new owner: lanes are open again, life signs are wiped, stamps of a clock that has
 * started anew since (another boot, another time namespace) are moved into the past; everything unread stays. The caller
 * keeps other starters away and has seen that the locks of owner, distributor and slots are free.
 *
 * Returns NULL, or why not, in words; *living is then the process that still uses it, or 0 when the file makes no sense.
 * May be killed at any step and called again. */
const char *mpb_adopt(int fd, const uint8_t boot_id[16], uint32_t *living);

#endif
