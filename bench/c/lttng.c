/* A tracepoint of LTTng-UST with a sequence of bytes. */
#include "protocol.h"

#define LTTNG_UST_TRACEPOINT_DEFINE
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#include "bench_provider.h"

/* With a second argument: wait until a session has the event enabled, which comes a moment after the start. */
static void start(int recorded)
{
	struct timespec pause = { 0, 1000000 };

	while (recorded && !lttng_ust_tracepoint_enabled(shmtrace_bench, blob))
		nanosleep(&pause, NULL);
}

static inline void emit(const uint8_t *data, size_t size)
{
#ifdef UNUSED
	lttng_ust_tracepoint(shmtrace_bench, unused, data, size);
#else
	lttng_ust_tracepoint(shmtrace_bench, blob, data, size);
#endif
}
