/*
 * What a record's bytes would cost if they were written in other ways: time stamps, stores, memory.
 *
 * A record of 16 + SIZE bytes goes into pages of 64 KiB, which a second thread writes to a pipe, as a collector does;
 * a third one empties the pipe without looking.  Records are written in bursts of a quarter of the pages, and only the
 * bursts are timed.  The ways take turns; each line of output has a way's name and the nanoseconds a record of one burst.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE (64UL << 10)
#define SIZE 32UL
#define RECORD (16 + SIZE)
#define EACH (PAGE / RECORD)

struct line {
	_Atomic uint64_t word;
	char rest[56];
} __attribute__((aligned(64)));

static struct line filled, sent, looked_at, other, lane;
static _Atomic int watching, done;
static int pipes[2];
static uint8_t *ring;
static uint64_t pages;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static void *collect(void *unused)
{
	(void)unused;
	while (!atomic_load_explicit(&done, memory_order_relaxed)) {
		uint64_t next = atomic_load_explicit(&sent.word, memory_order_relaxed);

		if (watching) {
			(void)atomic_load_explicit(watching == 1 ? &looked_at.word : &other.word, memory_order_relaxed);
			continue;
		}
		if (next == atomic_load_explicit(&filled.word, memory_order_acquire)) { /* pairs with the release in `burst` */
			sched_yield();
			continue;
		}
		for (uint64_t at = 0; at < PAGE;) {
			ssize_t got = write(pipes[1], ring + next % pages * PAGE + at, PAGE - at);

			if (got < 0)
				abort();
			at += got;
		}
		atomic_store_explicit(&sent.word, next + 1, memory_order_release); /* pairs with the acquire in `settle` */
	}
	close(pipes[1]);
	return NULL;
}

static void *drain(void *unused)
{
	int nowhere = open("/dev/null", O_WRONLY);

	(void)unused;
	while (splice(pipes[0], NULL, nowhere, NULL, 1 << 20, SPLICE_F_MOVE) > 0)
		;
	return NULL;
}

static void settle(void)
{
	while (atomic_load_explicit(&sent.word, memory_order_acquire) != filled.word) /* pairs with the release in `collect` */
		sched_yield();
}

enum { PLAIN, RDTSCP, FENCED, STREAMED, COMMITTED, TAKEN_FIRST, TAKEN_LATER };

/* As a producer takes its lane; nobody else wants this one. */
static inline void take(void)
{
	uint64_t nobody = 0;

	if (!atomic_compare_exchange_strong_explicit(&lane.word, &nobody, 1, memory_order_acquire, memory_order_relaxed))
		abort(); /* pairs with the release in `burst` */
}

/* COMMITTED also stores to a line of its own, as a commit does; another thread looks at it all the time, or does not. */
static inline __attribute__((always_inline)) double burst(int way, uint64_t count, const uint8_t *data)
{
	double begin = now();

	for (uint64_t page = 0; page < count; page++) {
		uint64_t number = atomic_load_explicit(&filled.word, memory_order_relaxed);
		uint8_t *to = ring + number % pages * PAGE;

		for (uint64_t record = 0; record < EACH; record++, to += RECORD) {
			unsigned int cpu;
			uint64_t head[2] = { 0, SIZE };

			if (way == RDTSCP) {
				head[0] = __builtin_ia32_rdtscp(&cpu);
			} else {
				if (way == FENCED)
					_mm_lfence();
				if (way == TAKEN_FIRST)
					take();
				head[0] = __builtin_ia32_rdtsc();
			}
			if (way == TAKEN_LATER)
				take();
			if (way == STREAMED) {
				_mm_stream_si128((__m128i *)to, _mm_loadu_si128((const __m128i *)head));
				_mm_stream_si128((__m128i *)(to + 16), _mm_loadu_si128((const __m128i *)data));
				_mm_stream_si128((__m128i *)(to + 32), _mm_loadu_si128((const __m128i *)(data + 16)));
			} else {
				memcpy(to, head, 16);
				memcpy(to + 16, data, SIZE);
			}
			if (way == COMMITTED)
				atomic_store_explicit(&looked_at.word, record, memory_order_release); /* pairs with nothing: only its cost counts */
			if (way == TAKEN_FIRST || way == TAKEN_LATER)
				atomic_store_explicit(&lane.word, 0, memory_order_release); /* pairs with the acquire in `take` */
			__asm__ volatile("" ::: "memory");
		}
		if (way == STREAMED)
			_mm_sfence();
		atomic_store_explicit(&filled.word, number + 1, memory_order_release); /* pairs with the acquire in `collect` */
	}
	return (now() - begin) / (count * EACH);
}

/* New memory for the pages: as it comes, or mapped before, or in huge pages. */
static void renew(int huge, int populate)
{
	static uint8_t *mapped;

	settle();
	if (mapped)
		munmap(mapped, pages * PAGE + (2UL << 20));
	mapped = mmap(NULL, pages * PAGE + (2UL << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mapped == MAP_FAILED)
		abort();
	ring = (uint8_t *)(((uintptr_t)mapped + (2UL << 20) - 1) & ~((2UL << 20) - 1));
	madvise(ring, pages * PAGE, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	if (populate)
		memset(ring, 0, pages * PAGE);
}

static void say(const char *way, double ns)
{
	printf("%s\t%.3f\n", way, ns);
	settle();
}

static double watched(int which, uint64_t count, const uint8_t *data)
{
	double ns;

	watching = which;
	ns = burst(COMMITTED, count, data);
	watching = 0;
	return ns;
}

int main(int argc, char **argv)
{
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 20;
	pthread_t collector, drainer;
	uint8_t data[SIZE] = { 0 };

	pages = 512;
	renew(0, 1);
	if (pipe(pipes))
		return 1;
	fcntl(pipes[1], F_SETPIPE_SZ, 1 << 20);
	pthread_create(&collector, NULL, collect, NULL);
	pthread_create(&drainer, NULL, drain, NULL);
	for (unsigned long round = 0; round < rounds; round++) {
		uint64_t count = pages / 4;
		double begin;

		say("plain", burst(PLAIN, count, data));
		say("rdtscp", burst(RDTSCP, count, data));
		say("lfence; rdtsc", burst(FENCED, count, data));
		say("compare-and-swap, rdtsc", burst(TAKEN_FIRST, count, data));
		say("rdtsc, compare-and-swap", burst(TAKEN_LATER, count, data));
		say("non-temporal stores", burst(STREAMED, count, data));
		say("plain", burst(PLAIN, count, data));
		say("commit, line unseen", burst(COMMITTED, count, data));
		say("commit, other line watched", watched(2, count, data));
		say("commit, line watched", watched(1, count, data));
		renew(0, 0);
		say("first lap, faults", burst(PLAIN, count, data));
		begin = now();
		renew(0, 1);
		say("mapping ahead, a record", (now() - begin) / (pages * EACH));
		renew(1, 1);
		for (int lap = 0; lap < 4; lap++)
			say("huge pages", burst(PLAIN, count, data));
		renew(0, 1);
		for (int lap = 0; lap < 4; lap++)
			say("small pages", burst(PLAIN, count, data));
		pages = 4;
		for (int lap = 0; lap < 16; lap++)
			say("four pages in turn", burst(PLAIN, 3, data));
		pages = 512;
	}
	settle();
	done = 1;
	pthread_join(collector, NULL);
	pthread_join(drainer, NULL);
	return 0;
}
