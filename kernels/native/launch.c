#include "launch.h"

#include "openmp.h"
#include "pool.h"

void launch(const schuss_table *table, int threads, bool use_openmp, bool threads_given)
{
    int team = use_openmp && threads > 1 ? openmp_max_threads() : 0;
    if (team > 0 && team < threads && !threads_given) {
        threads = team;
    }
    if (threads > MAX_THREADS) {
        threads = MAX_THREADS;
    }
    if (threads > 1 && ((team >= threads && openmp_run(table, threads)) || pool_run(table, threads))) {
        return;
    }
    run_table(table);
}
