/* What operating systems do differently: threads that sleep until they are woken, and processor cores. */
#ifndef SCHUSS_PLATFORM_H
#define SCHUSS_PLATFORM_H

#ifdef __linux__
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#endif

#include <stdbool.h>
#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64) || defined(__i386__) || defined(_M_IX86)
#include <immintrin.h>
#define schuss_relax() _mm_pause()
#elif defined(__aarch64__) && defined(__GNUC__)
#define schuss_relax() __asm__ volatile("yield")
#else
#define schuss_relax() ((void)0)
#endif

#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

typedef HANDLE schuss_door; /* where a thread waits for another */

static inline bool door_make(schuss_door *door)
{
    *door = CreateEventW(NULL, FALSE, FALSE, NULL);
    return *door != NULL;
}

static inline void door_wait(schuss_door *door) { WaitForSingleObject(*door, INFINITE); }
static inline void door_open(schuss_door *door) { SetEvent(*door); }

static inline bool thread_start(DWORD(WINAPI *body)(void *), void *argument)
{
    HANDLE thread = CreateThread(NULL, 0, body, argument, 0, NULL);
    if (thread == NULL) {
        return false;
    }
    CloseHandle(thread);
    return true;
}

#define SCHUSS_THREAD(name, argument) static DWORD WINAPI name(void *argument)
#define SCHUSS_THREAD_END 0

static inline void thread_nap(void) { Sleep(1); }

#else

#include <pthread.h>
#include <signal.h>
#include <time.h>

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t opened;
    bool open;
} schuss_door; /* where a thread waits for another; it closes behind whoever went through */

static inline bool door_make(schuss_door *door)
{
    door->open = false;
    return pthread_mutex_init(&door->mutex, NULL) == 0 && pthread_cond_init(&door->opened, NULL) == 0;
}

static inline void door_wait(schuss_door *door)
{
    pthread_mutex_lock(&door->mutex);
    while (!door->open) {
        pthread_cond_wait(&door->opened, &door->mutex);
    }
    door->open = false;
    pthread_mutex_unlock(&door->mutex);
}

static inline void door_open(schuss_door *door)
{
    pthread_mutex_lock(&door->mutex);
    door->open = true;
    pthread_mutex_unlock(&door->mutex);
    pthread_cond_signal(&door->opened); /* after the unlock, so that nobody wakes into a locked mutex */
}

static inline bool thread_start(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&thread, NULL, body, argument) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started) {
        pthread_detach(thread);
    }
    return started;
}

#define SCHUSS_THREAD(name, argument) static void *name(void *argument)
#define SCHUSS_THREAD_END NULL

static inline void thread_nap(void)
{
    struct timespec moment = {0, 50000};
    nanosleep(&moment, NULL);
}

#endif

#ifdef __linux__

#include <sched.h>
#include <unistd.h>

/* Cores this process may run on. */
static inline int core_count(void)
{
    cpu_set_t cores;
    return sched_getaffinity(getpid(), sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
}

/* The core that runs the caller; -1 where the system does not tell. */
static inline int core_here(void) { return sched_getcpu(); }

/* Keep the calling thread off a core. The scheduler likes to wake a thread where its waker runs, and leaves it there
   while other libraries' threads spin on the other cores: it would take turns with the caller instead of helping. */
static inline void core_avoid(int core)
{
    cpu_set_t cores;
    if (sched_getaffinity(getpid(), sizeof cores, &cores) == 0 && core < CPU_SETSIZE) {
        CPU_CLR(core, &cores);
        if (CPU_COUNT(&cores) > 0) {
            sched_setaffinity(0, sizeof cores, &cores);
        }
    }
}

#else

static inline int core_count(void) { return 1; }
static inline int core_here(void) { return -1; }
static inline void core_avoid(int core) { (void)core; }

#endif

#endif
