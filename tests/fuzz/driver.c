/* driver.c: runs a fuzz target where there is no libFuzzer: every file of a corpus, then changed copies of them.
 *
 *   target CORPUS SEED RUNS SECONDS     the same SEED and RUNS make the same inputs; stops at whichever comes first
 *   target FILE                         one input again
 *
 * Without coverage to guide it, so it finds less than libFuzzer; it needs only a compiler with AddressSanitizer. The input
 * that is being run lies in the file `current-input` of the working directory when the process dies.
 */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "input.h"

#define LARGEST 4096u
#define MOST_SEEDS 1024u

struct text {
    uint32_t size;
    uint8_t bytes[LARGEST];
};

static struct text *seeds, *current; /* current: mapped from the file, so that it outlives us */
static uint32_t seeds_n;
static uint64_t state_of_random;

static uint64_t below(uint64_t n)
{
    state_of_random ^= state_of_random << 13;
    state_of_random ^= state_of_random >> 7;
    state_of_random ^= state_of_random << 17;
    return state_of_random % n;
}

static void read_seed(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file || seeds_n == MOST_SEEDS) return;
    seeds[seeds_n].size = (uint32_t)fread(seeds[seeds_n].bytes, 1, LARGEST, file);
    fclose(file);
    seeds_n++;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void read_corpus(const char *path)
{
    char *found[MOST_SEEDS];
    size_t n = 0;
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir)) && n < MOST_SEEDS;)
        if (entry->d_name[0] != '.' && asprintf(&found[n], "%s/%s", path, entry->d_name) > 0) n++;
    if (dir) closedir(dir);
    qsort(found, n, sizeof *found, by_name); /* the order of a directory is anyone's */
    for (size_t i = 0; i < n; i++) {
        read_seed(found[i]);
        free(found[i]);
    }
}

static void change(struct text *t)
{
    for (uint64_t n = 1 + below(6); n-- > 0;) {
        const struct text *other = &seeds[below(seeds_n)];
        uint32_t at = t->size ? (uint32_t)below(t->size) : 0, len = (uint32_t)below(48);
        switch (below(6)) {
        case 0: t->bytes[at] = (uint8_t)below(256); break;
        case 1: t->bytes[at] ^= (uint8_t)(1 << below(8)); break;
        case 2: /* cut */
            if (len > t->size - at) len = t->size - at;
            memmove(t->bytes + at, t->bytes + at + len, t->size - at - len);
            t->size -= len;
            break;
        case 3: /* a stretch of another one, put in */
            if (len > other->size) len = other->size;
            if (len > LARGEST - t->size) len = LARGEST - t->size;
            memmove(t->bytes + at + len, t->bytes + at, t->size - at);
            memcpy(t->bytes + at, other->bytes + below(other->size - len + 1), len);
            t->size += len;
            break;
        case 4: /* once more */
            if (len > t->size - at) len = t->size - at;
            if (len > LARGEST - t->size) len = LARGEST - t->size;
            memmove(t->bytes + at + len, t->bytes + at, t->size - at);
            t->size += len;
            break;
        default:
            for (uint32_t i = at; i < t->size && i < at + 8; i++) t->bytes[i] = below(2) ? 0xff : (uint8_t)below(256);
        }
    }
}

static void run_one(void)
{
    alarm(20); /* a hang ends here */
    LLVMFuzzerTestOneInput(current->bytes, current->size);
}

int main(int argc, char **argv)
{
    seeds = calloc(MOST_SEEDS, sizeof *seeds);
    int fd = open("current-input", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(seeds && argc > 1 && fd >= 0 && ftruncate(fd, sizeof *current) == 0, "usage: target CORPUS SEED RUNS SECONDS");
    current = mmap(NULL, sizeof *current, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(current != MAP_FAILED, "memory");
    struct stat st;
    bool one = stat(argv[1], &st) == 0 && S_ISREG(st.st_mode);
    if (one) read_seed(argv[1]);
    else read_corpus(argv[1]);
    REQUIRE(seeds_n, "no input in %s", argv[1]);
    for (uint32_t i = 0; i < seeds_n; i++) {
        *current = seeds[i];
        run_one();
    }
    uint64_t runs = argc > 3 ? strtoull(argv[3], NULL, 10) : 0, n = 0;
    state_of_random = (argc > 2 ? strtoull(argv[2], NULL, 10) : 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    time_t end = time(NULL) + (argc > 4 ? atoi(argv[4]) : 3600);
    for (; !one && n < runs && time(NULL) < end; n++) {
        *current = seeds[below(seeds_n)];
        change(current);
        run_one();
    }
    unlink("current-input");
    printf("ok seeds=%u runs=%lu\n", seeds_n, (unsigned long)n);
    return 0;
}
