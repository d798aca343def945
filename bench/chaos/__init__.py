"""Faults at random: what is lost, repeated, held up or left behind when processes are killed and stopped at any moment.

::

    main ──starts──▶ application ──forks──▶ workers (each with a page of its own: number before and after each call)
     │                    └── distributor, three watchers, their spares
     ├─ tormentor: SIGKILL, SIGSTOP and SIGCONT, at random moments and at named points inside the C (`stop_point.c`)
     └─ account: what the pages say was accepted, against what stands in the three watchers' files

The account uses none of the project's counters. ``python -m bench.chaos --seconds 600 --seed 1 --rivals``; exit code 1
when a promise was broken.
"""
