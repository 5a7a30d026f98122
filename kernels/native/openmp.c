/* The team's idle threads spin, and helper threads of our own would compete with them for the cores. So the team does
   the work. Nothing is linked or loaded: where the process has not loaded libgomp already, there is no team. */

#include "platform.h" /* first: it defines _GNU_SOURCE */

#include "openmp.h"

#ifdef __linux__

#include <dlfcn.h>

typedef void (*gomp_parallel)(void (*body)(void *), void *data, unsigned threads, unsigned flags);
typedef int (*omp_number)(void);

static _Atomic(gomp_parallel) parallel;
static _Atomic(omp_number) thread_number;
static atomic_bool forked;

static void body(void *work) { work_drain(work, atomic_load(&thread_number)()); }

bool openmp_run(const schuss_table *table, int threads)
{
    if (atomic_load(&forked)) {
        return false;
    }
    gomp_parallel run = atomic_load(&parallel);
    if (run == NULL) {
        void *library = dlopen("libgomp.so.1", RTLD_LAZY | RTLD_NOLOAD);
        if (library == NULL) {
            return false;
        }
        run = (gomp_parallel)(intptr_t)dlsym(library, "GOMP_parallel");
        omp_number number = (omp_number)(intptr_t)dlsym(library, "omp_get_thread_num");
        if (run == NULL || number == NULL) {
            return false;
        }
        atomic_store(&thread_number, number);
        atomic_store(&parallel, run);
    }
    schuss_work work;
    work_share(&work, table, threads);
    run(body, &work, (unsigned)threads, 0);
    return true;
}

static void after_fork(void) { atomic_store(&forked, true); }

void openmp_watch_forks(void) { pthread_atfork(NULL, NULL, after_fork); }

#else

bool openmp_run(const schuss_table *table, int threads)
{
    (void)table, (void)threads;
    return false;
}

void openmp_watch_forks(void) {}

#endif
