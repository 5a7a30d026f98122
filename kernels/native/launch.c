#include "launch.h"

#include "openmp.h"
#include "pool.h"

void launch(const schuss_table *table, int threads, bool use_openmp)
{
    if (threads > MAX_THREADS) {
        threads = MAX_THREADS;
    }
    if (threads > 1 && ((use_openmp && openmp_run(table, threads)) || pool_run(table, threads))) {
        return;
    }
    run_table(table);
}
