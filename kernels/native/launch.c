#include "launch.h"

#include "columns.h"

static void run_rows(const schuss_table *table, int64_t first, int64_t last)
{
    for (int64_t number = first; number < last; number++) {
        const int64_t *row = table->rows + number * table->width;
        if (row[ROW_GRAD] != 0 && row[table->column] != 0) {
            int64_t returned;
            void *raised;
            ((schuss_kernel)(intptr_t)row[table->column])(&returned, &raised, (int64_t)(intptr_t)row);
        }
    }
}

void work_drain(schuss_work *work)
{
    const schuss_table *table = &work->table;
    for (;;) {
        int64_t span = atomic_fetch_add(&work->next, 1);
        if (span >= table->span_count) {
            return;
        }
        run_rows(table, table->spans[span], table->spans[span + 1]);
    }
}

void launch(const schuss_table *table, int threads, bool team)
{
    if (threads > 1 && ((team && team_run(table, threads)) || pool_run(table, threads))) {
        return;
    }
    run_rows(table, 0, table->count);
}
