/* Helper threads that share a launch with the calling one.

   A launch never waits for a helper to arrive. The caller opens the job, wakes the helpers and starts; whoever comes
   takes spans (launch.h says which), and the caller waits only for helpers that are still inside. A helper that the
   operating system has no core for costs nothing. A fork-join barrier, as in OpenMP, waits for it: milliseconds, for a
   step of a fraction of one, whenever another library's threads spin on the other cores or the process has slept.

   A helper raises ACTIVE, then looks at OPEN; the caller lowers OPEN, then waits for ACTIVE to be zero. Both are
   sequentially consistent: no helper touches a job that has ended, and the job may be written anew at once. */

#include "platform.h" /* first: it asks for the system's extensions */

#include "launch.h"

enum { MOST_HELPERS = MOST_THREADS - 1, LOOKS = 2000 }; /* so many looks at a variable take some 50 microseconds */

static struct {
    schuss_work work;
    _Atomic int core; /* that the caller runs on */
    _Alignas(64) _Atomic int open;
    _Alignas(64) _Atomic int active;
} job;

typedef struct {
    schuss_door door;
    _Alignas(64) _Atomic int called; /* there is a job */
    _Atomic int asleep;              /* it must be woken at the door */
    bool patient;
} schuss_helper;

static schuss_helper helpers[MOST_HELPERS];
static int helper_count;
static atomic_flag busy = ATOMIC_FLAG_INIT;

static void help(int thread)
{
    atomic_fetch_add(&job.active, 1);
    if (atomic_load(&job.open)) {
        work_drain(&job.work, thread);
    }
    atomic_fetch_sub(&job.active, 1);
}

/* Wait to be called. The next step often follows at once, in less time than it takes to wake up: look out for it. */
static void wait_for_call(schuss_helper *self)
{
    for (int looks = 0; self->patient && looks < LOOKS; looks++) {
        if (atomic_exchange(&self->called, 0)) {
            return;
        }
        schuss_relax();
    }
    atomic_store(&self->asleep, 1);
    while (!atomic_exchange(&self->called, 0)) {
        door_wait(&self->door);
    }
    atomic_store(&self->asleep, 0);
}

SCHUSS_THREAD(serve, argument)
{
    schuss_helper *self = argument;
    for (;;) {
        wait_for_call(self);
        int here = core_here();
        if (here >= 0 && here == atomic_load(&job.core)) {
            core_avoid(here);
        }
        help(1 + (int)(self - helpers));
    }
    return SCHUSS_THREAD_END;
}

static void call(int wanted)
{
    for (; helper_count < wanted; helper_count++) {
        schuss_helper *helper = &helpers[helper_count];
        atomic_store(&helper->called, 0);
        atomic_store(&helper->asleep, 0);
        helper->patient = helper_count + 1 < core_count(); /* beyond, it would keep others from their cores */
        if (!door_make(&helper->door) || !thread_start(serve, helper)) {
            break;
        }
    }
    for (int number = 0; number < wanted && number < helper_count; number++) {
        atomic_store(&helpers[number].called, 1);
        if (atomic_load(&helpers[number].asleep)) {
            door_open(&helpers[number].door);
        }
    }
}

bool pool_run(const schuss_table *table, int threads)
{
    if (atomic_flag_test_and_set(&busy)) {
        return false;
    }
    work_share(&job.work, table, threads);
    atomic_store(&job.core, core_here());
    atomic_store(&job.open, 1);
    call(threads - 1);
    work_drain(&job.work, 0);
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
    helper_count = 0;
    atomic_store(&job.open, 0);
    atomic_store(&job.active, 0);
    atomic_flag_clear(&busy);
}

void pool_watch_forks(void) { pthread_atfork(NULL, NULL, forked); }

#endif
