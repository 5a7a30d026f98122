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
    int64_t width, count;
    const int64_t *spans; /* span i is rows spans[i] to spans[i + 1] */
    int64_t span_count;
    int column; /* the kernels to run: ROW_KERNEL, ROW_SQUARES, ROW_MEASURE; 0: none for the row */
} schuss_table;

/* Threads take spans from a common counter, so one that is interrupted holds up a span, not its share of the work. */
typedef struct {
    schuss_table table;
    _Alignas(64) _Atomic int64_t next;
} schuss_work;

/* Run all rows with up to `threads` threads. `team`: prefer the OpenMP team of this process, if there is one. */
void launch(const schuss_table *table, int threads, bool team);

/* Take spans until there is none left. */
void work_drain(schuss_work *work);

/* pool.c: run a table with helper threads of our own; false, and nothing done, while they serve somebody else. */
bool pool_run(const schuss_table *table, int threads);

/* team.c: run a table with the OpenMP team of this process; false, and nothing done, where there is none. */
bool team_run(const schuss_table *table, int threads);

/* Once, when the module is loaded: what a forked child has to forget. */
void pool_watch_forks(void);
void team_watch_forks(void);

#endif
