/* The team's idle threads spin for some milliseconds, and helper threads of our own would compete with them for the
   cores. So the team does the work. Nothing is linked or loaded: where the process has not loaded libgomp already,
   there is no team.

   A launch with the team waits until every thread of it has come, even one that finds no work left. Where other
   processes keep the cores busy that takes 10 to 20 milliseconds. So each launch measures how long it waited for
   threads that had not begun. After a long wait the team is left alone for BACK_OFF times as long, and what it costs is
   bounded, whatever the machine does. */

#include "platform.h" /* first: it defines _GNU_SOURCE */

#include "openmp.h"

#ifdef __linux__

#include <dlfcn.h>
#include <stdatomic.h>

typedef void (*gomp_parallel)(void (*body)(void *), void *data, unsigned threads, unsigned flags);
typedef int (*omp_number)(void);

enum {
    BACK_OFF = 100,
    TOLERATED_NS = 100000, /* a wait that does not count: a sleeping thread takes about as long to wake */
};

static _Atomic(gomp_parallel) parallel;
static _Atomic(omp_number) max_threads, team_size, thread_number;
static atomic_bool forked;
static _Atomic int64_t back_at; /* the time at which the team may be used again */

/* What the threads of the team share in a launch. */
typedef struct {
    schuss_work work;
    _Atomic int begun;        /* threads that have come */
    bool complete;            /* whether all had come by `end_ns` */
    int64_t begin_ns, end_ns; /* when the calling thread began, and when it found no more work */
} schuss_region;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static omp_number number_of(void *library, const char *name) { return (omp_number)(intptr_t)dlsym(library, name); }

/* Find the functions of libgomp. Return false where it has not been loaded. */
static bool find_library(void)
{
    if (atomic_load(&parallel) != NULL) {
        return true;
    }
    void *library = dlopen("libgomp.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (library == NULL) {
        return false;
    }
    atomic_store(&max_threads, number_of(library, "omp_get_max_threads"));
    atomic_store(&team_size, number_of(library, "omp_get_num_threads"));
    atomic_store(&thread_number, number_of(library, "omp_get_thread_num"));
    /* The last one: it says that the others are there. */
    atomic_store(&parallel, (gomp_parallel)(intptr_t)dlsym(library, "GOMP_parallel"));
    return atomic_load(&parallel) != NULL;
}

static void body(void *data)
{
    schuss_region *region = data;
    int number = atomic_load(&thread_number)();
    atomic_fetch_add(&region->begun, 1);
    if (number == 0) {
        region->begin_ns = now_ns();
    }
    if (number < region->work.threads) {
        work_drain(&region->work, number);
    }
    if (number == 0) {
        region->complete = atomic_load(&region->begun) == atomic_load(&team_size)();
        region->end_ns = now_ns();
    }
}

int openmp_max_threads(void) { return find_library() ? atomic_load(&max_threads)() : 0; }

bool openmp_run(const schuss_table *table, int threads)
{
    int64_t called_ns = now_ns();
    if (called_ns < atomic_load(&back_at) || atomic_load(&forked)) {
        return false;
    }
    schuss_region region;
    work_share(&region.work, table, threads);
    atomic_init(&region.begun, 0);
    atomic_load(&parallel)(body, &region, 0, 0); /* 0: all of them. In a smaller team the others would end. */
    int64_t returned_ns = now_ns(), waited_ns = region.begin_ns - called_ns;
    if (!region.complete) {
        waited_ns += returned_ns - region.end_ns;
    }
    if (waited_ns > TOLERATED_NS) {
        atomic_store(&back_at, returned_ns + BACK_OFF * waited_ns);
    }
    return true;
}

static void after_fork(void) { atomic_store(&forked, true); }

void openmp_watch_forks(void) { pthread_atfork(NULL, NULL, after_fork); }

#else

int openmp_max_threads(void) { return 0; }

bool openmp_run(const schuss_table *table, int threads)
{
    (void)table, (void)threads;
    return false;
}

void openmp_watch_forks(void) {}

#endif
