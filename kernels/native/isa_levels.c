#include "isa_levels.h"

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) || defined(_M_X64)

#ifdef _MSC_VER
#include <intrin.h>

static void cpuid(uint32_t leaf, uint32_t into[4]) { __cpuidex((int *)into, (int)leaf, 0); }
static uint64_t saved_state(void) { return _xgetbv(0); }

#else
#include <cpuid.h>

static void cpuid(uint32_t leaf, uint32_t into[4]) { __cpuid_count(leaf, 0, into[0], into[1], into[2], into[3]); }

static uint64_t saved_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}

#endif

enum { EAX, EBX, ECX, EDX };

static bool has_all(uint32_t word, uint32_t bits) { return (word & bits) == bits; }

#define BIT(number) (UINT32_C(1) << (number))

/* Return the highest x86-64 level that runs here: 1, 3 or 4. Section 3.1.1 of the x86-64 psABI defines the levels, the
   manuals of Intel and AMD the bits of CPUID. */
static int highest_level(void)
{
    uint32_t basic[4], extended[4] = {0}, more[4], top[4];
    cpuid(0, top);
    cpuid(1, basic);
    if (top[EAX] >= 7) {
        cpuid(7, extended);
    }
    cpuid(UINT32_C(0x80000001), more);

    /* fma 12, movbe 22, popcnt 23, osxsave 27, avx 28, f16c 29; sse3 0, ssse3 9, cx16 13, sse4.1 19, sse4.2 20 */
    uint32_t first = BIT(0) | BIT(9) | BIT(12) | BIT(13) | BIT(19) | BIT(20) | BIT(22) | BIT(23) | BIT(27) | BIT(28) |
                     BIT(29);
    if (!has_all(basic[ECX], first)) {
        return 1;
    }
    uint64_t saved = saved_state();
    if ((saved & 0x6) != 0x6) { /* the system does not save xmm and ymm registers */
        return 1;
    }
    /* bmi1 3, avx2 5, bmi2 8; lahf 0, lzcnt 5 */
    if (!has_all(extended[EBX], BIT(3) | BIT(5) | BIT(8)) || !has_all(more[ECX], BIT(0) | BIT(5))) {
        return 1;
    }
    /* avx512f 16, dq 17, cd 28, bw 30, vl 31; opmask, zmm0-15, zmm16-31 */
    bool wide = has_all(extended[EBX], BIT(16) | BIT(17) | BIT(28) | BIT(30) | BIT(31)) && (saved & 0xe0) == 0xe0;
    return wide ? 4 : 3;
}

bool isa_level_runs(const char *name)
{
    int highest = highest_level();
    return (strcmp(name, "x86-64") == 0) || (strcmp(name, "x86-64-v3") == 0 && highest >= 3) ||
           (strcmp(name, "x86-64-v4") == 0 && highest >= 4);
}

#else

bool isa_level_runs(const char *name) { return strcmp(name, "generic") == 0; }

#endif
