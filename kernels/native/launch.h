/* How a table of rows is run: by the caller alone, with helper threads, or by an OpenMP team that is there already. */
#ifndef SCHUSS_LAUNCH_H
#define SCHUSS_LAUNCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A kernel as numba compiles it: where to put what it returns and what it raises (nothing, both), then its argument. */
typedef int (*schuss_kernel)(void *returned, void **raised, int64_t row);

/* A plan: rows of `width` 64-bit integers (plan.py says what stands in them), cut into spans. */
typedef struct {
    const int64_t *rows;
    int64_t width;
    const int64_t *spans; /* span i is rows spans[i] to spans[i + 1] */
    int64_t span_count;
    int column; /* the kernels to run: ROW_KERNEL, ROW_SQUARES, ROW_MEASURE; 0: none for the row */
} schuss_table;

enum { MOST_THREADS = 256 };

/* Spans `first` to `end` of the table; so many are taken. */
typedef struct {
    _Alignas(64) _Atomic int64_t taken;
    int64_t first, end;
} schuss_share;

/* Every thread has a share of the spans, the same in every pass and step, as what its core's caches hold is then its
   own: memory that another core has read is slow to write, even when it has left the caches. A thread that is done takes
   spans of the others' shares, so one that is interrupted, or does not come at all, holds up a span at most. */
typedef struct {
    schuss_table table;
    int threads;
    schuss_share shares[MOST_THREADS];
} schuss_work;

/* Run all rows with up to `threads` threads. `team`: prefer the OpenMP team of this process, if there is one. */
void launch(const schuss_table *table, int threads, bool team);

/* Share a table out to so many threads, MOST_THREADS at most. */
void work_share(schuss_work *work, const schuss_table *table, int threads);

/* Take spans until there is none left; `thread` of the threads does it. */
void work_drain(schuss_work *work, int thread);

/* pool.c: run a table with helper threads of our own; false, and nothing done, while they serve somebody else. */
bool pool_run(const schuss_table *table, int threads);

/* openmp.c: run a table with the OpenMP team of this process; false, and nothing done, where there is none. */
bool team_run(const schuss_table *table, int threads);

/* Once, when the module is loaded: what a forked child has to forget. */
void pool_watch_forks(void);
void team_watch_forks(void);

#endif
