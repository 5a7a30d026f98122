/* A table of rows, how one thread runs it, and how several threads share it. */
#ifndef SCHUSS_WORK_H
#define SCHUSS_WORK_H

#include <stdatomic.h>
#include <stdint.h>

/* A kernel as numba compiles it. `row` is the address of the table row that it works on. A kernel returns and raises
   nothing: `returned` and `raised` are scratch memory. */
typedef int (*schuss_kernel)(void *returned, void **raised, int64_t row);

/* The chunk table: rows of `width` 64-bit integers (plan.py lists the columns), cut into spans. */
typedef struct {
    const int64_t *rows;
    int64_t width;
    const int64_t *spans; /* span i is rows spans[i] to spans[i + 1], the last one excluded */
    int64_t span_count;
    int column; /* which kernels to run: ROW_KERNEL, ROW_SQUARES or ROW_MEASURE; a row with 0 there has none */
} schuss_table;

enum { MAX_THREADS = 256 };

/* One thread's share: spans `first` to `end` of the table, of which the first `taken` have been taken. `taken` may pass
   the number of spans. */
typedef struct {
    _Alignas(64) _Atomic int64_t taken; /* on a cache line of its own */
    int64_t first, end;
} schuss_share;

/* A table shared by several threads.

   Each thread has the same share of the spans in every pass and step: its core's caches then hold what it works on, and
   memory that another core has read is slow to write, even after it has left that core's caches. A thread that has
   finished its share takes spans of the others' shares. A thread that is interrupted, or never comes, therefore delays
   the rest by one span at most. */
typedef struct {
    schuss_table table;
    int threads;
    schuss_share shares[MAX_THREADS];
} schuss_work;

/* Call the kernel at address `kernel` on a row. */
static inline void call_kernel(int64_t kernel, const int64_t *row)
{
    int64_t returned;
    void *raised;
    ((schuss_kernel)(intptr_t)kernel)(&returned, &raised, (int64_t)(intptr_t)row);
}

/* Run all rows of a table on the calling thread. */
void run_table(const schuss_table *table);

/* Divide the spans of a table among `threads` threads, MAX_THREADS at most. */
void work_share(schuss_work *work, const schuss_table *table, int threads);

/* Run spans until none is left: those of the share of `thread` (0 to threads - 1) first, then those of the others. */
void work_drain(schuss_work *work, int thread);

#endif
