/* The provider of lttng.c. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER shmtrace_bench

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "bench_provider.h"

#if !defined(BENCH_PROVIDER_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define BENCH_PROVIDER_H

#include <lttng/tracepoint.h>
#include <stddef.h>
#include <stdint.h>

LTTNG_UST_TRACEPOINT_EVENT_CLASS(
	shmtrace_bench, bytes,
	LTTNG_UST_TP_ARGS(const uint8_t *, data, size_t, size),
	LTTNG_UST_TP_FIELDS(lttng_ust_field_sequence(uint8_t, blob, data, uint16_t, size))
)
/* Of these, a session enables the first; it would do so in every program. */
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(shmtrace_bench, bytes, shmtrace_bench, blob,
	LTTNG_UST_TP_ARGS(const uint8_t *, data, size_t, size))
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(shmtrace_bench, bytes, shmtrace_bench, unused,
	LTTNG_UST_TP_ARGS(const uint8_t *, data, size_t, size))

#endif

#include <lttng/tracepoint-event.h>
