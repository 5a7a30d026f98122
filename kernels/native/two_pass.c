#include "two_pass.h"

#include <string.h>

#include "columns.h"
#include "launch.h"

double fold_blocks(const double *blocks, int64_t block_count, int64_t stride)
{
    double sum = block_count > 0 ? blocks[0] : 0.0;
    for (int64_t block = 1; block < block_count; block++) {
        sum += blocks[block * stride];
    }
    return sum;
}

static double *sums_of(const int64_t *row) { return (double *)(intptr_t)row[TWO_PASS_FOLDED]; }

/* Call the rule's compiled finish(), where the row has one. */
static void finish_row(int64_t *row, int64_t clock)
{
    if (row[TWO_PASS_FINISH] != 0) {
        row[TWO_PASS_STEP] = clock + row[TWO_PASS_AHEAD];
        call_kernel(row[TWO_PASS_FINISH], row);
    }
}

/* Compute a tensor's sums from those of its blocks, add them to the sums that it shares with others, if any, and call
   its own finish(), if any. */
static void finish_tensor(int64_t *row, int64_t clock)
{
    if (row[TWO_PASS_FINISH] == 0 && row[TWO_PASS_INTO] == 0) {
        return;
    }
    const double *blocks = (const double *)(intptr_t)row[TWO_PASS_MEASURED];
    double *shared = (double *)(intptr_t)row[TWO_PASS_INTO], *sums = sums_of(row);
    for (int64_t number = 0; number < row[TWO_PASS_SUMS]; number++) {
        sums[number] = fold_blocks(blocks + number, row[TWO_PASS_BLOCKS], row[TWO_PASS_SUMS]);
        if (shared != NULL) {
            shared[number] += sums[number];
        }
    }
    finish_row(row, clock);
}

void two_pass_run(schuss_plan *plan, bool use_openmp)
{
    int64_t clock = *plan->clock, *rows = plan->two_pass_rows;
    int64_t *shared_rows = rows + plan->tensors * TWO_PASS_COLUMNS;
    int64_t *rows_end = rows + plan->two_pass_count * TWO_PASS_COLUMNS;
    for (int64_t *row = shared_rows; row < rows_end; row += TWO_PASS_COLUMNS) {
        if (row[TWO_PASS_FINISH] != 0) {
            memset(sums_of(row), 0, (size_t)row[TWO_PASS_SUMS] * sizeof(double));
        }
    }
    for (int64_t number = 0; number < plan->portion_count; number++) {
        const int64_t *portion = plan->portions + number * PORTION_COLUMNS;
        int threads = (int)portion[PORTION_THREADS];
        schuss_table table = plan->table;
        table.spans += portion[PORTION_FIRST_SPAN];
        table.span_count = portion[PORTION_LAST_SPAN] - portion[PORTION_FIRST_SPAN];
        table.column = ROW_MEASURE;
        launch(&table, threads, use_openmp, plan->threads_given);
        for (int64_t tensor = portion[PORTION_FIRST_TENSOR]; tensor < portion[PORTION_LAST_TENSOR]; tensor++) {
            finish_tensor(rows + tensor * TWO_PASS_COLUMNS, clock);
        }
        for (int64_t *row = shared_rows; row < rows_end; row += TWO_PASS_COLUMNS) {
            finish_row(row, clock);
        }
        table.column = ROW_KERNEL;
        launch(&table, threads, use_openmp, plan->threads_given);
    }
    *plan->clock += 1;
}
