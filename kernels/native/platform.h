/* What differs between operating systems: threads, events that threads wait for, and processor cores. */
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

/* A thread waits for an event until another thread sets it; the wait resets it. */
typedef HANDLE schuss_event;

static inline bool event_init(schuss_event *event)
{
    *event = CreateEventW(NULL, FALSE, FALSE, NULL);
    return *event != NULL;
}

static inline void event_wait(schuss_event *event) { WaitForSingleObject(*event, INFINITE); }
static inline void event_set(schuss_event *event) { SetEvent(*event); }

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

static inline void thread_sleep_briefly(void) { Sleep(1); }

#else

#include <pthread.h>
#include <signal.h>
#include <time.h>

/* A thread waits for an event until another thread sets it; the wait resets it. */
typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool set;
} schuss_event;

static inline bool event_init(schuss_event *event)
{
    event->set = false;
    return pthread_mutex_init(&event->mutex, NULL) == 0 && pthread_cond_init(&event->changed, NULL) == 0;
}

static inline void event_wait(schuss_event *event)
{
    pthread_mutex_lock(&event->mutex);
    while (!event->set) {
        pthread_cond_wait(&event->changed, &event->mutex);
    }
    event->set = false;
    pthread_mutex_unlock(&event->mutex);
}

static inline void event_set(schuss_event *event)
{
    pthread_mutex_lock(&event->mutex);
    event->set = true;
    pthread_mutex_unlock(&event->mutex);
    pthread_cond_signal(&event->changed); /* after the unlock: the thread that wakes finds the mutex free */
}

static inline bool thread_start(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all); /* the new thread takes no signals: they are for the program's own threads */
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

static inline void thread_sleep_briefly(void)
{
    struct timespec duration = {0, 50000}; /* 50 microseconds */
    nanosleep(&duration, NULL);
}

#endif

#ifdef __linux__

#include <sched.h>
#include <unistd.h>

/* Return how many cores this process may run on. */
static inline int core_count(void)
{
    cpu_set_t cores;
    return sched_getaffinity(getpid(), sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
}

/* Return the number of the core that runs the calling thread, -1 where the system does not tell. */
static inline int current_core(void) { return sched_getcpu(); }

/* Keep the calling thread off a core. The scheduler often wakes a thread on the core of the thread that wakes it, and
   leaves it there while other libraries' threads spin on the other cores: the two would alternate on one core. */
static inline void avoid_core(int core)
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
static inline int current_core(void) { return -1; }
static inline void avoid_core(int core) { (void)core; }

#endif

#endif
