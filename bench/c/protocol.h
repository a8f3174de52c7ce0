/*
 * What the programs here have in common: they take the size of an event and perhaps the word `recorded`, then, line by
 * line, how many events to emit, and answer each time with the seconds that passed and those of cpu time that were used.
 *
 * The including file defines `start(recorded)` and `emit(data, size)`.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec + now.tv_nsec * 1e-9;
}

static void start(int recorded);
static inline void emit(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	size_t size = argc > 1 ? strtoul(argv[1], NULL, 10) : 32;
	uint8_t *data = calloc(1, size);
	unsigned long count;

	start(argc > 2);
	while (scanf("%lu", &count) == 1) {
		double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), begin = seconds(CLOCK_MONOTONIC);

		for (unsigned long number = 0; number < count; number++) {
			/* Nothing about the payload is known to the compiler. */
			__asm__ volatile("" : "+r"(data), "+r"(size) : : "memory");
			emit(data, size);
		}
		begin = seconds(CLOCK_MONOTONIC) - begin;
		cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
		printf("%.9f %.9f\n", begin, cpu);
		fflush(stdout);
	}
	return 0;
}
