/* A launch never waits for a helper to arrive. The caller opens the job, wakes the helpers and starts. Each helper that
   arrives takes spans (work.h says which), and the caller waits only for helpers that are still at work. A helper that
   gets no core from the operating system costs nothing. A fork-join barrier, as in OpenMP, would wait for it: for
   milliseconds, in a step of a fraction of one, whenever another library's threads spin on the other cores or the
   process has slept.

   A helper raises `active`, then reads `open`; the caller clears `open`, then waits until `active` is zero. Both are
   sequentially consistent. So no helper touches a job that has ended, and the caller may write the next one at once. */

#include "platform.h" /* first: it defines _GNU_SOURCE */

#include "pool.h"

enum {
    MAX_HELPERS = MAX_THREADS - 1,
    SPIN_COUNT = 2000, /* reads of a variable before a thread sleeps: about 50 microseconds */
};

static struct {
    schuss_work work;
    _Atomic int core; /* the core that the caller runs on */
    _Alignas(64) _Atomic int open;   /* 1 while helpers may enter */
    _Alignas(64) _Atomic int active; /* helpers inside */
} job;

typedef struct {
    schuss_event event;
    _Alignas(64) _Atomic int has_job; /* set by the caller, cleared by the helper */
    _Atomic int asleep;               /* 1 while the helper waits for its event */
    bool spins;                       /* whether it spins before it sleeps */
} schuss_helper;

static schuss_helper helpers[MAX_HELPERS];
static int helper_count;
static atomic_flag busy = ATOMIC_FLAG_INIT;

/* Work on the job as thread number `thread`, if the job is still open. */
static void join_job(int thread)
{
    atomic_fetch_add(&job.active, 1);
    if (atomic_load(&job.open)) {
        work_drain(&job.work, thread);
    }
    atomic_fetch_sub(&job.active, 1);
}

/* Wait for the next job. It often follows at once, in less time than it takes to wake up: spin first, then sleep. */
static void wait_for_job(schuss_helper *self)
{
    for (int spin = 0; self->spins && spin < SPIN_COUNT; spin++) {
        if (atomic_exchange(&self->has_job, 0)) {
            return;
        }
        schuss_relax();
    }
    atomic_store(&self->asleep, 1);
    while (!atomic_exchange(&self->has_job, 0)) {
        event_wait(&self->event);
    }
    atomic_store(&self->asleep, 0);
}

SCHUSS_THREAD(helper_main, argument)
{
    schuss_helper *self = argument;
    for (;;) {
        wait_for_job(self);
        int core = current_core();
        if (core >= 0 && core == atomic_load(&job.core)) {
            avoid_core(core);
        }
        join_job(1 + (int)(self - helpers));
    }
    return SCHUSS_THREAD_END;
}

/* Wake up to `wanted` helpers. Start those that do not exist yet; the system may refuse to. */
static void wake_helpers(int wanted)
{
    for (; helper_count < wanted; helper_count++) {
        schuss_helper *helper = &helpers[helper_count];
        atomic_store(&helper->has_job, 0);
        atomic_store(&helper->asleep, 0);
        helper->spins = helper_count + 1 < core_count(); /* with more threads than cores, spinning takes others' time */
        if (!event_init(&helper->event) || !thread_start(helper_main, helper)) {
            break;
        }
    }
    for (int number = 0; number < wanted && number < helper_count; number++) {
        atomic_store(&helpers[number].has_job, 1);
        if (atomic_load(&helpers[number].asleep)) {
            event_set(&helpers[number].event);
        }
    }
}

bool pool_run(const schuss_table *table, int threads)
{
    if (atomic_flag_test_and_set(&busy)) {
        return false;
    }
    work_share(&job.work, table, threads);
    atomic_store(&job.core, current_core());
    atomic_store(&job.open, 1);
    wake_helpers(threads - 1);
    work_drain(&job.work, 0);
    atomic_store(&job.open, 0);
    for (int spin = 0; atomic_load(&job.active) != 0; spin++) {
        if (spin < SPIN_COUNT) {
            schuss_relax(); /* the helper is usually near the end of its last span */
        } else {
            thread_sleep_briefly(); /* the helper was interrupted in a span: let it have this core */
        }
    }
    atomic_flag_clear(&busy);
    return true;
}

#ifdef _WIN32

void pool_watch_forks(void) {}

#else

static void after_fork(void)
{
    helper_count = 0;
    atomic_store(&job.open, 0);
    atomic_store(&job.active, 0);
    atomic_flag_clear(&busy);
}

void pool_watch_forks(void) { pthread_atfork(NULL, NULL, after_fork); }

#endif
