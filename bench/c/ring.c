/*
 * The floor of any tracer: a time stamp and a size, and the payload behind them, into a ring in memory.
 * No other thread, no loss, no reader, no check but for the end of the ring.
 */
#include "protocol.h"

#define RING_BYTES (1UL << 16) /* stays in the cache */

static uint8_t *ring;
static size_t position;

struct header {
	uint64_t cycles;
	uint64_t size;
};

static inline uint64_t cycles(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t value;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(value));
	return value;
#endif
}

static void start(int recorded)
{
	(void)recorded;
	ring = calloc(1, RING_BYTES);
}

static inline void emit(const uint8_t *data, size_t size)
{
	struct header header = { cycles(), size };

	if (position + sizeof header + size > RING_BYTES)
		position = 0;
	memcpy(ring + position, &header, sizeof header);
	memcpy(ring + position + sizeof header, data, size);
	position += (sizeof header + size + 7) & ~7UL;
}
