#include "work.h"

#include "columns.h"

/* Run the kernels of rows `first` to `last`, the last one excluded. A row without a gradient is skipped. */
static void run_rows(const schuss_table *table, int64_t first, int64_t last)
{
    for (int64_t number = first; number < last; number++) {
        const int64_t *row = table->rows + number * table->width;
        if (row[ROW_GRAD] != 0 && row[table->column] != 0) {
            call_kernel(row[table->column], row);
        }
    }
}

static void run_span(const schuss_table *table, int64_t span)
{
    run_rows(table, table->spans[span], table->spans[span + 1]);
}

void run_table(const schuss_table *table)
{
    for (int64_t span = 0; span < table->span_count; span++) {
        run_span(table, span);
    }
}

void work_share(schuss_work *work, const schuss_table *table, int threads)
{
    work->table = *table;
    work->threads = threads;
    for (int number = 0; number < threads; number++) {
        schuss_share *share = &work->shares[number];
        share->first = table->span_count * number / threads;
        share->end = table->span_count * (number + 1) / threads;
        atomic_store(&share->taken, 0);
    }
}

void work_drain(schuss_work *work, int thread)
{
    for (int offset = 0; offset < work->threads; offset++) {
        schuss_share *share = &work->shares[(thread + offset) % work->threads];
        int64_t taken, count = share->end - share->first;
        while ((taken = atomic_fetch_add(&share->taken, 1)) < count) {
            run_span(&work->table, share->first + taken);
        }
    }
}
