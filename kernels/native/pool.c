/* Helper threads that share a launch with the calling one.

   A launch never waits for a helper to arrive. The caller opens the job, wakes the helpers and starts; whoever comes
   takes spans from a common counter, and the caller waits only for helpers that are still inside. A helper that the
   operating system has no core for costs nothing. A fork-join barrier, as in OpenMP, waits for it: milliseconds, for a
   step of a fraction of one, whenever another library's threads spin on the other cores or the process has slept.

   A helper raises ACTIVE, then looks at OPEN; the caller lowers OPEN, then waits for ACTIVE to be zero. Both are
   sequentially consistent: no helper touches a job that has ended, and the job may be written anew at once. */

#include "platform.h" /* first: it asks for the system's extensions */

#include "launch.h"

enum { MOST_HELPERS = 255, LOOKS = 4000 };

static struct {
    schuss_work work;
    _Atomic int core; /* that the caller runs on */
    _Alignas(64) _Atomic int open;
    _Alignas(64) _Atomic int active;
} job;

static schuss_bed beds[MOST_HELPERS];
static int helpers;
static atomic_flag busy = ATOMIC_FLAG_INIT;

static void help(void)
{
    atomic_fetch_add(&job.active, 1);
    if (atomic_load(&job.open)) {
        work_drain(&job.work);
    }
    atomic_fetch_sub(&job.active, 1);
}

SCHUSS_THREAD(serve, argument)
{
    schuss_bed *bed = argument;
    for (;;) {
        bed_sleep(bed);
        int here = core_here();
        if (here >= 0 && here == atomic_load(&job.core)) {
            core_avoid(here);
        }
        help();
    }
    return SCHUSS_THREAD_END;
}

static int wake(int wanted)
{
    if (wanted > MOST_HELPERS) {
        wanted = MOST_HELPERS;
    }
    while (helpers < wanted && bed_make(&beds[helpers]) && thread_start(serve, &beds[helpers])) {
        helpers++;
    }
    int woken = wanted < helpers ? wanted : helpers;
    for (int number = 0; number < woken; number++) {
        bed_wake(&beds[number]);
    }
    return woken;
}

bool pool_run(const schuss_table *table, int threads)
{
    if (atomic_flag_test_and_set(&busy)) {
        return false;
    }
    job.work.table = *table;
    atomic_store(&job.work.next, 0);
    atomic_store(&job.core, core_here());
    atomic_store(&job.open, 1);
    wake(threads - 1);
    work_drain(&job.work);
    atomic_store(&job.open, 0);
    for (int looks = 0; atomic_load(&job.active) != 0; looks++) {
        if (looks < LOOKS) {
            schuss_relax(); /* a helper is mostly at the end of its last span */
        } else {
            thread_nap(); /* it was interrupted inside: let it have this core */
        }
    }
    atomic_flag_clear(&busy);
    return true;
}

#ifdef _WIN32

void pool_watch_forks(void) {}

#else

static void forked(void) /* threads do not survive a fork: the child starts its own */
{
    helpers = 0;
    atomic_store(&job.open, 0);
    atomic_store(&job.active, 0);
    atomic_flag_clear(&busy);
}

void pool_watch_forks(void) { pthread_atfork(NULL, NULL, forked); }

#endif
