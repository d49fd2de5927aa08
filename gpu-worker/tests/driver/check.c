/*
 * Checks the stand-in: right use must pass without a violation, wrong use must be answered with the right
 * code and reported. Knows nothing of the official header: names, numbers and layouts are written down here
 * again, as a program does that opens the library at run time.
 *
 * Usage: check PATH-OF-libcuda.so.1 [TEST]. Exits 1 on any failure.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- The library as its callers see it ----------------------------------------------------------------- */

typedef unsigned long long Address, Handle;
struct location { int type, id; };
struct properties {
    int type;
    unsigned handle_types;
    struct location location;
    void *win32;
    struct { unsigned char compression, rdma; unsigned short usage; unsigned char reserved[4]; } flags;
};
struct access { struct location location; unsigned flags; };

enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100,
    INVALID_DEVICE = 101, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_READY = 600, ILLEGAL_ADDRESS = 700,
    DESTROYED = 709, ALREADY_REGISTERED = 712, NOT_REGISTERED = 713, NOT_SUPPORTED = 801
};
enum { PINNED = 1, DEVICE = 1, HOST = 2, POSIX_FD = 1, READ = 1, READ_WRITE = 3, NON_BLOCKING = 1 };
enum { REGISTER_READ_ONLY = 8 };

#define CALLS(X)                                                                                            \
    X(int, cuInit, (unsigned))                                                                              \
    X(int, cuDriverGetVersion, (int *))                                                                     \
    X(int, cuDeviceGetCount, (int *))                                                                       \
    X(int, cuDeviceGet, (int *, int))                                                                       \
    X(int, cuDeviceGetName, (char *, int, int))                                                             \
    X(int, cuDeviceGetUuid_v2, (void *, int))                                                               \
    X(int, cuDeviceGetAttribute, (int *, int, int))                                                         \
    X(int, cuDeviceTotalMem_v2, (size_t *, int))                                                            \
    X(int, cuDeviceGetPCIBusId, (char *, int, int))                                                         \
    X(int, cuDevicePrimaryCtxRetain, (void **, int))                                                        \
    X(int, cuDevicePrimaryCtxRelease_v2, (int))                                                             \
    X(int, cuCtxSetCurrent, (void *))                                                                       \
    X(int, cuCtxGetCurrent, (void **))                                                                      \
    X(int, cuCtxSynchronize, (void))                                                                        \
    X(int, cuGetErrorName, (int, const char **))                                                            \
    X(int, cuGetErrorString, (int, const char **))                                                          \
    X(int, cuMemGetInfo_v2, (size_t *, size_t *))                                                           \
    X(int, cuMemGetAllocationGranularity, (size_t *, const struct properties *, int))                       \
    X(int, cuMemCreate, (Handle *, size_t, const struct properties *, unsigned long long))                  \
    X(int, cuMemRelease, (Handle))                                                                          \
    X(int, cuMemAddressReserve, (Address *, size_t, size_t, Address, unsigned long long))                   \
    X(int, cuMemAddressFree, (Address, size_t))                                                             \
    X(int, cuMemMap, (Address, size_t, size_t, Handle, unsigned long long))                                 \
    X(int, cuMemUnmap, (Address, size_t))                                                                   \
    X(int, cuMemSetAccess, (Address, size_t, const struct access *, size_t))                                \
    X(int, cuMemExportToShareableHandle, (void *, Handle, int, unsigned long long))                         \
    X(int, cuMemImportFromShareableHandle, (Handle *, void *, int))                                         \
    X(int, cuMemHostAlloc, (void **, size_t, unsigned))                                                     \
    X(int, cuMemFreeHost, (void *))                                                                         \
    X(int, cuMemHostRegister_v2, (void *, size_t, unsigned))                                                \
    X(int, cuMemHostUnregister, (void *))                                                                   \
    X(int, cuMemcpyHtoDAsync_v2, (Address, const void *, size_t, void *))                                   \
    X(int, cuMemcpyDtoHAsync_v2, (void *, Address, size_t, void *))                                         \
    X(int, cuMemcpyHtoD_v2, (Address, const void *, size_t))                                                \
    X(int, cuMemcpyDtoH_v2, (void *, Address, size_t))                                                      \
    X(int, cuMemcpyDtoDAsync_v2, (Address, Address, size_t, void *))                                        \
    X(int, cuMemsetD8Async, (Address, unsigned char, size_t, void *))                                       \
    X(int, cuStreamCreate, (void **, unsigned))                                                             \
    X(int, cuStreamDestroy_v2, (void *))                                                                    \
    X(int, cuStreamSynchronize, (void *))                                                                   \
    X(int, cuStreamQuery, (void *))                                                                         \
    X(int, cuEventCreate, (void **, unsigned))                                                              \
    X(int, cuEventRecord, (void *, void *))                                                                 \
    X(int, cuEventSynchronize, (void *))                                                                    \
    X(int, cuEventQuery, (void *))                                                                          \
    X(int, cuEventDestroy_v2, (void *))                                                                     \
    X(int, cuEventElapsedTime_v2, (float *, void *, void *))                                                \
    X(void, hoist_standin_reset, (void))                                                                    \
    X(void, hoist_standin_set_total, (unsigned long long))                                                  \
    X(void, hoist_standin_set_devices, (int))                                                               \
    X(void, hoist_standin_use, (unsigned long long))                                                        \
    X(void, hoist_standin_fail, (const char *, int, unsigned))                                              \
    X(void, hoist_standin_attribute, (int, int))                                                            \
    X(void, hoist_standin_poison, (int))                                                                    \
    X(void, hoist_standin_hang, (const char *, int))                                                        \
    X(void, hoist_standin_hold, (int))                                                                      \
    X(const char *, hoist_standin_last_violation, (void))                                                   \
    X(unsigned long, hoist_standin_calls, (const char *))                                                   \
    X(unsigned long, hoist_standin_violations, (void))                                                      \
    X(unsigned long, hoist_standin_pageable_async_copies, (void))                                           \
    X(unsigned long, hoist_standin_contextless_calls, (void))                                               \
    X(unsigned long, hoist_standin_allocations, (void))                                                     \
    X(unsigned long, hoist_standin_handles, (void))                                                         \
    X(unsigned long, hoist_standin_reservations, (void))                                                    \
    X(unsigned long, hoist_standin_mappings, (void))                                                        \
    X(unsigned long, hoist_standin_streams, (void))                                                         \
    X(unsigned long, hoist_standin_events, (void))                                                          \
    X(unsigned long, hoist_standin_host_allocations, (void))                                                \
    X(unsigned long, hoist_standin_registrations, (void))                                                   \
    X(unsigned long, hoist_standin_context_references, (void))

#define DECLARE(answer, name, arguments) static answer(*name) arguments;
CALLS(DECLARE)

static const char *library, *program;
static int errors_to = STDERR_FILENO; /* for failures of this check; the stand-in's lines go to a file */
static int failures;
static unsigned long checks, seen, lines;

/* ---- Judging ------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void failed(int line, const char *format, ...)
{
    va_list arguments;
    failures++;
    va_start(arguments, format);
    dprintf(errors_to, "check.c:%d: ", line);
    vdprintf(errors_to, format, arguments);
    dprintf(errors_to, "\n");
    va_end(arguments);
}

/* A call's answer, and the violation it must have caused: a part of its text, or null for none. */
static void judge(int line, const char *call, int answer, int wanted, const char *text)
{
    unsigned long now = hoist_standin_violations();
    const char *last = hoist_standin_last_violation();
    checks++;
    if (answer != wanted) failed(line, "%s answers %d, not %d (%s)", call, answer, wanted, last);
    if (now - seen != (text ? 1 : 0)) failed(line, "%s: %lu violations (%s)", call, now - seen, last);
    else if (text && !strstr(last, text)) failed(line, "%s: the violation says: %s", call, last);
    lines += now - seen;
    seen = now;
}
#define ANSWERS(code, call) judge(__LINE__, #call, (call), code, NULL)
#define OK(call) ANSWERS(SUCCESS, call)
#define WRONG(code, text, call) judge(__LINE__, #call, (call), code, text)
#define BAD(text, call) WRONG(INVALID_VALUE, text, call)
#define IS(value, wanted) judge(__LINE__, #value " is " #wanted, (value) == (wanted), 1, NULL)
#define LATER(text) judge(__LINE__, "queued work", 0, 0, text)

static void reset(void)
{
    hoist_standin_reset();
    seen = 0;
}

/* ---- What the tests share ------------------------------------------------------------------------------ */

#define MIB ((size_t)1 << 20)
#define GRANULE (2 * MIB)

static const struct properties plain = {PINNED, 0, {DEVICE, 0}, NULL, {0, 0, 0, {0}}};
static const struct properties shareable = {PINNED, POSIX_FD, {DEVICE, 0}, NULL, {0, 0, 0, {0}}};
static const struct access read_write = {{DEVICE, 0}, READ_WRITE}, read_only = {{DEVICE, 0}, READ};
static void *context;

static void start(void)
{
    reset();
    OK(cuInit(0));
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
}

/* Ends a test: the context goes, and nothing may be left. */
static void finish(void)
{
    OK(cuDevicePrimaryCtxRelease_v2(0));
    IS(hoist_standin_allocations() + hoist_standin_handles() + hoist_standin_reservations(), 0);
    IS(hoist_standin_mappings() + hoist_standin_streams() + hoist_standin_events(), 0);
    IS(hoist_standin_host_allocations() + hoist_standin_registrations(), 0);
    IS(hoist_standin_context_references(), 0);
}

struct region { Address at; size_t size; Handle handle; };

static struct region region(size_t size, const struct properties *properties)
{
    struct region r = {0, size, 0};
    OK(cuMemAddressReserve(&r.at, size, 0, 0, 0));
    OK(cuMemCreate(&r.handle, size, properties, 0));
    OK(cuMemMap(r.at, size, 0, r.handle, 0));
    OK(cuMemSetAccess(r.at, size, &read_write, 1));
    return r;
}

static void end(struct region r)
{
    OK(cuMemUnmap(r.at, r.size));
    OK(cuMemRelease(r.handle));
    OK(cuMemAddressFree(r.at, r.size));
}

static char *pages(size_t size, int protection)
{
    return mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static size_t unused(void)
{
    size_t bytes = 0, total;
    OK(cuMemGetInfo_v2(&bytes, &total));
    return bytes;
}

static int in_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    void *answer;
    if (pthread_create(&thread, NULL, body, argument) || pthread_join(thread, &answer)) return -1;
    return (int)(intptr_t)answer;
}

static void *release_hold(void *unused_argument)
{
    (void)unused_argument;
    usleep(30000);
    hoist_standin_hold(0);
    return NULL;
}

/* Lets queued work start a little later, from another thread. */
static pthread_t release_later(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, release_hold, NULL);
    return thread;
}

/* ---- Starting, devices, contexts ----------------------------------------------------------------------- */

static void nothing_before_init(void)
{
    const char *text = NULL;
    size_t bytes, all;
    Address at;
    Handle handle;
    void *pointer;
    int n = 0;
    reset();
    OK(cuDriverGetVersion(&n));
    IS(n, 13000);
    OK(cuGetErrorName(OUT_OF_MEMORY, &text));
    IS(strcmp(text, "CUDA_ERROR_OUT_OF_MEMORY"), 0);
    OK(cuGetErrorString(ILLEGAL_ADDRESS, &text));
    IS(text != NULL, 1);
    ANSWERS(INVALID_VALUE, cuGetErrorName(12345, &text));
    IS(text == NULL, 1);
    WRONG(NOT_INITIALIZED, "cuDeviceGetCount: called before cuInit", cuDeviceGetCount(&n));
    WRONG(NOT_INITIALIZED, "before cuInit", cuDeviceGet(&n, 0));
    WRONG(NOT_INITIALIZED, "before cuInit", cuDevicePrimaryCtxRetain(&pointer, 0));
    WRONG(NOT_INITIALIZED, "before cuInit", cuCtxSetCurrent(NULL));
    WRONG(NOT_INITIALIZED, "before cuInit", cuMemGetInfo_v2(&bytes, &all));
    WRONG(NOT_INITIALIZED, "before cuInit", cuMemCreate(&handle, GRANULE, &plain, 0));
    WRONG(NOT_INITIALIZED, "before cuInit", cuMemAddressReserve(&at, GRANULE, 0, 0, 0));
    WRONG(NOT_INITIALIZED, "before cuInit", cuStreamCreate(&pointer, 0));
    WRONG(NOT_INITIALIZED, "before cuInit", cuEventQuery(NULL));
    BAD("flags must be 0", cuInit(1));
    hoist_standin_set_devices(0);
    ANSWERS(NO_DEVICE, cuInit(0));
    WRONG(NOT_INITIALIZED, "before cuInit", cuDeviceGetCount(&n));
}

static void devices(void)
{
    char name[64], uuid[2][16];
    size_t bytes = 0;
    int n = -1;
    reset();
    hoist_standin_set_devices(9);
    hoist_standin_set_total(64 * MIB);
    OK(cuInit(0));
    OK(cuInit(0));
    OK(cuDeviceGetCount(&n));
    IS(n, 8);
    hoist_standin_set_devices(2);
    OK(cuDeviceGet(&n, 1));
    IS(n, 1);
    ANSWERS(INVALID_DEVICE, cuDeviceGet(&n, 2));
    ANSWERS(INVALID_DEVICE, cuDeviceGet(&n, -1));
    OK(cuDeviceGetName(name, sizeof name, 1));
    OK(cuDeviceGetName(name, 6, 0));
    IS(strcmp(name, "Hoist"), 0);
    BAD("no room", cuDeviceGetName(name, 0, 0));
    OK(cuDeviceGetUuid_v2(uuid[0], 0));
    OK(cuDeviceGetUuid_v2(uuid[1], 1));
    IS(memcmp(uuid[0], uuid[1], 16) != 0, 1);
    OK(cuDeviceTotalMem_v2(&bytes, 0));
    IS(bytes, 64 * MIB);
    OK(cuDeviceGetPCIBusId(name, 13, 0));
    IS(strcmp(name, "0000:3B:00.0"), 0);
    OK(cuDeviceGetPCIBusId(name, 64, 1));
    IS(strcmp(name, "0000:3C:00.0"), 0);
    BAD("13 characters", cuDeviceGetPCIBusId(name, 12, 0));
    static const struct { int name, value; } known[] = {
        {102, 1}, {103, 1}, {113, 1}, {99, 1}, {75, 9}, {76, 0}, {33, 0x3C}, {34, 0}, {50, 0}, {134, 0},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        OK(cuDeviceGetAttribute(&n, known[i].name, 1));
        IS(n, known[i].value);
    }
    ANSWERS(INVALID_VALUE, cuDeviceGetAttribute(&n, 9999, 0));
    WRONG(INVALID_DEVICE, "no device 2", cuDeviceGetAttribute(&n, 102, 2));
    WRONG(INVALID_DEVICE, "no device 2", cuDeviceTotalMem_v2(&bytes, 2));
    WRONG(INVALID_DEVICE, "no device -1", cuDeviceGetUuid_v2(uuid[0], -1));
    BAD("null", cuDeviceGetCount(NULL));
    BAD("null", cuDeviceGetAttribute(NULL, 102, 0));
    BAD("null", cuDriverGetVersion(NULL));
}

static void *without_context(void *stream)
{
    return (void *)(intptr_t)cuStreamSynchronize(stream);
}

static void contexts(void)
{
    void *first = NULL, *again = NULL, *stream, *event, *host;
    size_t bytes, all;
    Address at;
    reset();
    OK(cuInit(0));
    OK(cuCtxGetCurrent(&again));
    IS(again == NULL, 1);
    WRONG(INVALID_CONTEXT, "no context is current", cuMemGetInfo_v2(&bytes, &all));
    WRONG(INVALID_CONTEXT, "no context is current", cuStreamCreate(&stream, 0));
    WRONG(INVALID_CONTEXT, "no context is current", cuEventCreate(&event, 0));
    WRONG(INVALID_CONTEXT, "no context is current", cuMemHostAlloc(&host, 4096, 0));
    WRONG(INVALID_CONTEXT, "no context is current", cuCtxSynchronize());
    IS(hoist_standin_contextless_calls(), 0);
    OK(cuMemAddressReserve(&at, GRANULE, 0, 0, 0)); /* documented without a context; counted */
    OK(cuMemAddressFree(at, GRANULE));
    IS(hoist_standin_contextless_calls(), 2);
    WRONG(INVALID_CONTEXT, "not retained", cuDevicePrimaryCtxRelease_v2(0));
    WRONG(INVALID_CONTEXT, "not a retained context", cuCtxSetCurrent(&bytes));
    OK(cuDevicePrimaryCtxRetain(&first, 0));
    OK(cuDevicePrimaryCtxRetain(&again, 0));
    IS(first == again, 1);
    IS(hoist_standin_context_references(), 2);
    WRONG(INVALID_CONTEXT, "no context", cuMemGetInfo_v2(&bytes, &all)); /* retaining is not enough */
    OK(cuCtxSetCurrent(first));
    OK(cuCtxGetCurrent(&again));
    IS(first == again, 1);
    OK(cuStreamCreate(&stream, NON_BLOCKING));
    WRONG(INVALID_CONTEXT, "no context is current", in_thread(without_context, stream));
    OK(cuEventCreate(&event, 0));
    OK(cuCtxSetCurrent(NULL));
    OK(cuEventQuery(event));
    WRONG(INVALID_CONTEXT, "no context", cuEventDestroy_v2(event));
    OK(cuCtxSetCurrent(first));
    OK(cuEventDestroy_v2(event));
    OK(cuStreamDestroy_v2(stream));
    OK(cuDevicePrimaryCtxRelease_v2(0));
    OK(cuMemGetInfo_v2(&bytes, &all));
    OK(cuDevicePrimaryCtxRelease_v2(0));
    WRONG(DESTROYED, "released", cuMemGetInfo_v2(&bytes, &all));
    WRONG(INVALID_CONTEXT, "not a retained context", cuCtxSetCurrent(first));
    OK(cuDevicePrimaryCtxRetain(&again, 0));
    IS(first == again, 1);
    OK(cuMemGetInfo_v2(&bytes, &all));
    finish();
    reset();
    OK(cuInit(0));
    OK(cuCtxGetCurrent(&again)); /* a reset takes the current context from every thread */
    IS(again == NULL, 1);
}

/* ---- Device memory ------------------------------------------------------------------------------------- */

static void reservations(void)
{
    Address a = 0, b = 0;
    start();
    BAD("multiple of the granularity", cuMemAddressReserve(&a, 0, 0, 0, 0));
    BAD("multiple of the granularity", cuMemAddressReserve(&a, 4096, 0, 0, 0));
    BAD("power of two", cuMemAddressReserve(&a, GRANULE, 3 * MIB, 0, 0));
    BAD("page size", cuMemAddressReserve(&a, GRANULE, 0, 4097, 0));
    BAD("flags", cuMemAddressReserve(&a, GRANULE, 0, 0, 1));
    BAD("null", cuMemAddressReserve(NULL, GRANULE, 0, 0, 0));
    ANSWERS(OUT_OF_MEMORY, cuMemAddressReserve(&a, (size_t)1 << 60, 0, 0, 0));
    OK(cuMemAddressReserve(&a, 64 * GRANULE, (size_t)1 << 30, 0, 0));
    IS(a % ((size_t)1 << 30), 0);
    OK(cuMemAddressReserve(&b, GRANULE, 0, 0, 0));
    IS(b % GRANULE, 0);
    BAD("whole of a reservation", cuMemAddressFree(a, GRANULE));
    BAD("whole of a reservation", cuMemAddressFree(a + GRANULE, 63 * GRANULE));
    OK(cuMemAddressFree(a, 64 * GRANULE));
    BAD("not reserved", cuMemAddressFree(a, 64 * GRANULE));
    BAD("not reserved", cuMemAddressFree(0, GRANULE));
    IS(hoist_standin_reservations(), 1);
    OK(cuMemAddressFree(b, GRANULE));
    finish();
}

static void creation(void)
{
    struct properties p;
    Handle handle = 0, other;
    size_t granularity = 0;
    start();
    hoist_standin_set_total(16 * MIB);
    for (int option = 0; option < 2; option++) {
        OK(cuMemGetAllocationGranularity(&granularity, &plain, option));
        IS(granularity, GRANULE);
    }
    BAD("option", cuMemGetAllocationGranularity(&granularity, &plain, 2));
    BAD("properties are null", cuMemCreate(&handle, GRANULE, NULL, 0));
    BAD("multiple of the granularity", cuMemCreate(&handle, 0, &plain, 0));
    BAD("multiple of the granularity", cuMemCreate(&handle, GRANULE + 4096, &plain, 0));
    BAD("flags", cuMemCreate(&handle, GRANULE, &plain, 1));
    p = plain, p.type = 2;
    BAD("allocation type 2", cuMemCreate(&handle, GRANULE, &p, 0));
    p = plain, p.location.type = HOST;
    BAD("location type 2", cuMemCreate(&handle, GRANULE, &p, 0));
    p = plain, p.location.id = 1;
    WRONG(INVALID_DEVICE, "no device 1", cuMemCreate(&handle, GRANULE, &p, 0));
    p = plain, p.handle_types = 8;
    BAD("handle types 0x8", cuMemCreate(&handle, GRANULE, &p, 0));
    p = plain, p.win32 = &p;
    BAD("unused property", cuMemCreate(&handle, GRANULE, &p, 0));
    p = plain, p.flags.usage = 1;
    BAD("unused property", cuMemCreate(&handle, GRANULE, &p, 0));
    p = plain, p.flags.reserved[3] = 1;
    BAD("unused property", cuMemGetAllocationGranularity(&granularity, &p, 0));
    IS(unused(), 16 * MIB);
    OK(cuMemCreate(&handle, 10 * MIB, &plain, 0));
    IS(unused(), 6 * MIB);
    ANSWERS(OUT_OF_MEMORY, cuMemCreate(&other, 8 * MIB, &plain, 0));
    OK(cuMemCreate(&other, 6 * MIB, &plain, 0));
    IS(unused(), 0);
    OK(cuMemRelease(other));
    hoist_standin_use(5 * MIB);
    IS(unused(), MIB);
    ANSWERS(OUT_OF_MEMORY, cuMemCreate(&other, 2 * MIB, &plain, 0));
    hoist_standin_use(500 * MIB);
    IS(unused(), 0);
    hoist_standin_use(0);
    BAD("not a live memory handle", cuMemRelease(other));
    BAD("not a live memory handle", cuMemRelease(0));
    OK(cuMemRelease(handle));
    BAD("not a live memory handle", cuMemRelease(handle));
    IS(unused(), 16 * MIB);
    hoist_standin_attribute(103, 0);
    ANSWERS(NOT_SUPPORTED, cuMemCreate(&handle, GRANULE, &shareable, 0));
    hoist_standin_attribute(102, 0);
    ANSWERS(NOT_SUPPORTED, cuMemCreate(&handle, GRANULE, &plain, 0));
    hoist_standin_attribute(102, 1);
    finish();
}

static void mapping(void)
{
    Address a = 0, b = 0;
    Handle small = 0, large = 0;
    start();
    OK(cuMemAddressReserve(&a, 8 * GRANULE, 0, 0, 0));
    OK(cuMemAddressReserve(&b, GRANULE, 0, 0, 0));
    OK(cuMemCreate(&small, GRANULE, &plain, 0));
    OK(cuMemCreate(&large, 4 * GRANULE, &plain, 0));
    BAD("granularity", cuMemMap(a + 4096, GRANULE, 0, small, 0));
    BAD("granularity", cuMemMap(a, 4096, 0, small, 0));
    BAD("granularity", cuMemMap(a, 0, 0, small, 0));
    BAD("offset", cuMemMap(a, GRANULE, GRANULE, large, 0));
    BAD("flags", cuMemMap(a, GRANULE, 0, small, 1));
    BAD("maps 4194304 bytes", cuMemMap(a, 2 * GRANULE, 0, small, 0));
    BAD("not inside one reservation", cuMemMap(a + 8 * GRANULE + ((size_t)1 << 40), GRANULE, 0, small, 0));
    BAD("not inside one reservation", cuMemMap(a + 6 * GRANULE, 4 * GRANULE, 0, large, 0));
    BAD("not a live memory handle", cuMemMap(a, GRANULE, 0, large + 100, 0));
    OK(cuMemMap(a, GRANULE, 0, small, 0));
    BAD("already mapped", cuMemMap(a, GRANULE, 0, small, 0));
    BAD("already mapped", cuMemMap(a, 4 * GRANULE, 0, large, 0));
    OK(cuMemMap(b, GRANULE, 0, small, 0));                 /* one memory at two places */
    OK(cuMemMap(a + GRANULE, 2 * GRANULE, 0, large, 0));   /* a part of a memory, from its start */
    BAD("still mapped", cuMemAddressFree(b, GRANULE));
    BAD("not exactly one mapping", cuMemUnmap(a + GRANULE, GRANULE));
    BAD("not exactly one mapping", cuMemUnmap(a + 2 * GRANULE, GRANULE));
    BAD("not exactly one mapping", cuMemUnmap(a, 3 * GRANULE));
    BAD("not exactly one mapping", cuMemUnmap(a + 4 * GRANULE, GRANULE));
    IS(hoist_standin_mappings(), 3);
    OK(cuMemRelease(small)); /* the mappings keep the memory */
    IS(unused(), 1024 * MIB - 5 * GRANULE);
    OK(cuMemUnmap(a, GRANULE));
    IS(unused(), 1024 * MIB - 5 * GRANULE);
    OK(cuMemUnmap(b, GRANULE));
    IS(unused(), 1024 * MIB - 4 * GRANULE);
    BAD("not exactly one mapping", cuMemUnmap(b, GRANULE));
    BAD("not a live memory handle", cuMemMap(b, GRANULE, 0, small, 0));
    OK(cuMemUnmap(a + GRANULE, 2 * GRANULE));
    OK(cuMemMap(a, 4 * GRANULE, 0, large, 0)); /* the addresses can be used again */
    OK(cuMemUnmap(a, 4 * GRANULE));
    OK(cuMemRelease(large));
    OK(cuMemAddressFree(a, 8 * GRANULE));
    OK(cuMemAddressFree(b, GRANULE));
    IS(unused(), 1024 * MIB);
    finish();
}

static void access_rights(void)
{
    static char bytes[64];
    struct access both[2] = {read_write, read_write}, odd = read_write;
    Address a = 0;
    Handle first = 0, second = 0;
    start();
    OK(cuMemAddressReserve(&a, 4 * GRANULE, 0, 0, 0));
    OK(cuMemCreate(&first, GRANULE, &plain, 0));
    OK(cuMemCreate(&second, GRANULE, &plain, 0));
    OK(cuMemMap(a, GRANULE, 0, first, 0));
    BAD("no access", cuMemcpyHtoD_v2(a, bytes, 64));
    BAD("no access is described", cuMemSetAccess(a, GRANULE, &read_write, 0));
    BAD("no access is described", cuMemSetAccess(a, GRANULE, NULL, 1));
    BAD("whole mappings", cuMemSetAccess(a, 2 * GRANULE, &read_write, 1));
    BAD("whole mappings", cuMemSetAccess(a, GRANULE / 2, &read_write, 1));
    BAD("whole mappings", cuMemSetAccess(a + GRANULE, GRANULE, &read_write, 1));
    BAD("whole mappings", cuMemSetAccess(a, 0, &read_write, 1));
    BAD("described twice", cuMemSetAccess(a, GRANULE, both, 2));
    odd.flags = 2;
    BAD("no access 0x2", cuMemSetAccess(a, GRANULE, &odd, 1));
    odd = read_write, odd.location.type = HOST;
    BAD("location type 2", cuMemSetAccess(a, GRANULE, &odd, 1));
    odd = read_write, odd.location.id = 1;
    WRONG(INVALID_DEVICE, "no device 1", cuMemSetAccess(a, GRANULE, &odd, 1));
    OK(cuMemMap(a + GRANULE, GRANULE, 0, second, 0));
    OK(cuMemSetAccess(a, 2 * GRANULE, &read_write, 1));
    OK(cuMemcpyHtoD_v2(a + GRANULE - 32, bytes, 64)); /* across two mappings */
    OK(cuMemSetAccess(a + GRANULE, GRANULE, &read_only, 1));
    BAD("may only read", cuMemcpyHtoD_v2(a + GRANULE, bytes, 64));
    BAD("may only read", cuMemcpyHtoD_v2(a + GRANULE - 32, bytes, 64));
    BAD("may only read", cuMemsetD8Async(a + GRANULE, 0, 64, NULL));
    OK(cuMemcpyDtoH_v2(bytes, a + GRANULE - 32, 64));
    OK(cuMemUnmap(a, GRANULE));
    BAD("not mapped", cuMemcpyDtoH_v2(bytes, a + GRANULE - 32, 64));
    OK(cuMemMap(a, GRANULE, 0, first, 0));
    BAD("no access to", cuMemcpyDtoH_v2(bytes, a, 64)); /* a new mapping starts without access */
    OK(cuMemUnmap(a, GRANULE));
    OK(cuMemUnmap(a + GRANULE, GRANULE));
    OK(cuMemRelease(first));
    OK(cuMemRelease(second));
    OK(cuMemAddressFree(a, 4 * GRANULE));
    finish();
}

static void copies(void)
{
    unsigned char out[4096], in[4096];
    start();
    struct region r = region(2 * GRANULE, &plain);
    for (size_t i = 0; i < sizeof out; i++) out[i] = (unsigned char)(i * 7);
    OK(cuMemcpyDtoH_v2(in, r.at, 64));
    IS(in[0] != 0, 1); /* new memory is not zeroed memory */
    OK(cuMemcpyHtoD_v2(r.at + 100, out, sizeof out));
    OK(cuMemcpyDtoH_v2(in, r.at + 100, sizeof in));
    IS(memcmp(in, out, sizeof in), 0);
    IS(memcmp((void *)(r.at + 100), out, sizeof out), 0); /* a test may look without a copy */
    OK(cuMemsetD8Async(r.at + 200, 9, 10, NULL));
    OK(cuMemcpyDtoDAsync_v2(r.at + GRANULE, r.at + 195, 20, NULL));
    OK(cuMemcpyDtoH_v2(in, r.at + GRANULE, 20));
    IS(in[4] == out[99] && in[5] == 9 && in[14] == 9 && in[15] == out[110], 1);
    OK(cuMemcpyHtoD_v2(r.at, out, 0));
    OK(cuMemcpyHtoD_v2(r.at + r.size - 64, out, 64));
    BAD("past its reservation", cuMemcpyHtoD_v2(r.at + r.size - 63, out, 64));
    BAD("not a device address", cuMemcpyHtoD_v2(r.at - 1, out, 64));
    BAD("not a device address", cuMemcpyHtoD_v2(0, out, 64));
    BAD("not a device address", cuMemcpyDtoH_v2(in, (Address)(uintptr_t)out, 64));
    BAD("wraps around", cuMemcpyHtoD_v2(r.at, out, (size_t)-1));
    BAD("a host address is wanted", cuMemcpyHtoD_v2(r.at, (void *)(r.at + GRANULE), 64));
    BAD("not mapped", cuMemcpyHtoD_v2(r.at, NULL, 64));
    BAD("overlap", cuMemcpyDtoDAsync_v2(r.at, r.at + 10, 20, NULL));
    char *fixed = pages(4096, PROT_READ), *hidden = pages(4096, PROT_NONE);
    OK(cuMemcpyHtoD_v2(r.at, fixed, 4096));
    BAD("may not be written", cuMemcpyDtoH_v2(fixed, r.at, 4096));
    BAD("may not be read", cuMemcpyHtoD_v2(r.at, hidden, 4096));
    munmap(fixed, 4096);
    munmap(hidden, 4096);
    BAD("not mapped", cuMemcpyHtoD_v2(r.at, hidden, 4096));
    IS(hoist_standin_pageable_async_copies(), 0); /* none of these was asynchronous */
    end(r);
    BAD("not a device address", cuMemcpyDtoH_v2(in, r.at, 64));
    finish();
}

/* ---- Streams and events -------------------------------------------------------------------------------- */

static void queued_work(void)
{
    void *stream = NULL, *event = NULL, *staging = NULL;
    static unsigned char bytes[4096];
    start();
    struct region r = region(GRANULE, &plain);
    OK(cuStreamCreate(&stream, NON_BLOCKING));
    OK(cuEventCreate(&event, 2));
    OK(cuMemHostAlloc(&staging, 3 * MIB, 0));
    OK(cuEventQuery(event));
    OK(cuEventSynchronize(event));
    OK(cuStreamQuery(stream));
    hoist_standin_hold(1);
    memset(staging, 5, 8192);
    OK(cuMemcpyHtoDAsync_v2(r.at, staging, 4096, stream));
    OK(cuMemsetD8Async(r.at + 4096, 6, 4096, stream));
    OK(cuMemcpyDtoDAsync_v2(r.at + 8192, r.at + 2048, 4096, stream));
    OK(cuMemcpyDtoHAsync_v2((char *)staging + 8192, r.at + 8192, 4096, stream));
    OK(cuEventRecord(event, stream));
    ANSWERS(NOT_READY, cuEventQuery(event));
    ANSWERS(NOT_READY, cuStreamQuery(stream));
    IS(((unsigned char *)staging)[8192] != 5, 1);
    OK(cuStreamSynchronize(NULL)); /* the null stream does not wait for a stream that does not block */
    OK(cuStreamQuery(NULL));
    pthread_t thread = release_later();
    OK(cuEventSynchronize(event));
    pthread_join(thread, NULL);
    OK(cuEventQuery(event));
    OK(cuStreamQuery(stream));
    IS(((unsigned char *)staging)[8192], 5);
    IS(((unsigned char *)staging)[8192 + 2048], 6);
    IS(hoist_standin_pageable_async_copies(), 0);
    OK(cuMemcpyHtoDAsync_v2(r.at, bytes, sizeof bytes, stream)); /* pageable: counted, and done on return */
    memset(bytes, 1, sizeof bytes);
    OK(cuStreamQuery(stream));
    IS(*(unsigned char *)r.at, 0);
    OK(cuMemcpyDtoHAsync_v2(bytes, r.at, sizeof bytes, stream));
    IS(bytes[0], 0);
    IS(hoist_standin_pageable_async_copies(), 2);
    for (int i = 0; i < 200; i++) { /* a queue keeps its order, also where all of it shares a buffer */
        OK(cuMemsetD8Async(r.at, (unsigned char)i, 64, stream));
        OK(cuMemcpyDtoHAsync_v2(staging, r.at, 64, stream));
        OK(cuMemcpyHtoDAsync_v2(r.at + 64, staging, 64, stream));
    }
    OK(cuCtxSynchronize());
    IS(((unsigned char *)r.at)[64], 199);
    OK(cuEventDestroy_v2(event));
    OK(cuStreamDestroy_v2(stream));
    OK(cuMemFreeHost(staging));
    end(r);
    finish();
}

static void stream_rules(void)
{
    void *blocking = NULL, *stream = NULL, *staging = NULL;
    unsigned char byte = 0;
    start();
    struct region r = region(GRANULE, &plain);
    OK(cuMemHostAlloc(&staging, 4096, 0));
    BAD("flags 0x2", cuStreamCreate(&stream, 2));
    OK(cuStreamCreate(&blocking, 0));
    OK(cuStreamCreate(&stream, NON_BLOCKING));
    hoist_standin_hold(1);
    OK(cuMemsetD8Async(r.at, 77, 64, blocking));
    ANSWERS(NOT_READY, cuStreamQuery(NULL));
    pthread_t thread = release_later();
    OK(cuMemcpyDtoH_v2(&byte, r.at, 1)); /* the null stream waits for streams that block */
    pthread_join(thread, NULL);
    IS(byte, 77);
    ANSWERS(NOT_SUPPORTED, cuStreamSynchronize((void *)2));
    OK(cuStreamSynchronize((void *)1));
    WRONG(INVALID_HANDLE, "null stream", cuStreamDestroy_v2(NULL));
    WRONG(INVALID_HANDLE, "not a live stream", cuStreamSynchronize(&byte));
    WRONG(INVALID_HANDLE, "not a live stream", cuMemcpyHtoDAsync_v2(r.at, staging, 64, &byte));
    hoist_standin_hold(1);
    OK(cuMemsetD8Async(r.at, 88, 64, stream));
    OK(cuStreamDestroy_v2(stream)); /* returns at once, and its work is done later */
    IS(hoist_standin_streams(), 1);
    WRONG(INVALID_HANDLE, "not a live stream", cuStreamDestroy_v2(stream));
    WRONG(INVALID_HANDLE, "not a live stream", cuStreamQuery(stream));
    IS(*(unsigned char *)r.at, 77);
    hoist_standin_hold(0);
    OK(cuCtxSynchronize());
    IS(*(unsigned char *)r.at, 88);
    OK(cuStreamDestroy_v2(blocking));
    OK(cuMemFreeHost(staging));
    end(r);
    finish();
}

static void event_rules(void)
{
    void *stream = NULL, *first = NULL, *second = NULL, *quiet = NULL;
    float time = -1;
    start();
    struct region r = region(GRANULE, &plain);
    OK(cuStreamCreate(&stream, NON_BLOCKING));
    OK(cuEventCreate(&first, 0));
    OK(cuEventCreate(&second, 1));
    OK(cuEventCreate(&quiet, 2));
    BAD("flags 0x8", cuEventCreate(&quiet, 8));
    BAD("must not keep times", cuEventCreate(&quiet, 4));
    WRONG(INVALID_HANDLE, "never recorded", cuEventElapsedTime_v2(&time, first, second));
    OK(cuEventRecord(first, stream));
    hoist_standin_hold(1);
    OK(cuMemsetD8Async(r.at, 1, 64, stream));
    OK(cuEventRecord(second, stream));
    OK(cuEventRecord(quiet, stream));
    ANSWERS(NOT_READY, cuEventElapsedTime_v2(&time, first, second));
    WRONG(INVALID_HANDLE, "keeps no times", cuEventElapsedTime_v2(&time, first, quiet));
    OK(cuEventDestroy_v2(quiet)); /* before it is complete */
    WRONG(INVALID_HANDLE, "not a live event", cuEventQuery(quiet));
    WRONG(INVALID_HANDLE, "not a live event", cuEventDestroy_v2(quiet));
    WRONG(INVALID_HANDLE, "not a live event", cuEventRecord(quiet, stream));
    WRONG(INVALID_HANDLE, "not a live event", cuEventSynchronize(NULL));
    hoist_standin_hold(0);
    OK(cuEventSynchronize(second));
    OK(cuEventElapsedTime_v2(&time, first, second));
    IS(time >= 0, 1);
    hoist_standin_hold(1);
    OK(cuEventRecord(first, stream)); /* recorded again: it stands for the newer work */
    ANSWERS(NOT_READY, cuEventQuery(first));
    OK(cuEventRecord(first, NULL));
    OK(cuEventQuery(first));
    hoist_standin_hold(0);
    OK(cuStreamSynchronize(stream));
    OK(cuEventQuery(first));
    OK(cuEventDestroy_v2(first));
    OK(cuEventDestroy_v2(second));
    OK(cuStreamDestroy_v2(stream));
    end(r);
    finish();
}

/* ---- Memory taken away from work ----------------------------------------------------------------------- */

static void buffers_under_way(void)
{
    void *stream = NULL, *other = NULL, *staging = NULL;
    unsigned char byte = 0;
    start();
    struct region r = region(GRANULE, &plain);
    OK(cuStreamCreate(&stream, NON_BLOCKING));
    OK(cuStreamCreate(&other, NON_BLOCKING));
    OK(cuMemHostAlloc(&staging, 8192, 0));

    hoist_standin_hold(1); /* the source is written again before the copy is done */
    OK(cuMemcpyHtoDAsync_v2(r.at, staging, 4096, stream));
    ((char *)staging)[4095] ^= 1;
    hoist_standin_hold(0);
    WRONG(SUCCESS, "cuMemcpyHtoDAsync: its host memory was changed", cuStreamSynchronize(stream));

    hoist_standin_hold(1); /* the destination is written by the host before the copy is done */
    OK(cuMemcpyDtoHAsync_v2(staging, r.at, 4096, stream));
    ((char *)staging)[1] = 1;
    hoist_standin_hold(0);
    WRONG(SUCCESS, "cuMemcpyDtoHAsync: its host memory was written", cuStreamSynchronize(stream));

    hoist_standin_hold(1); /* two streams, one memory, no order */
    OK(cuMemcpyHtoDAsync_v2(r.at, staging, 4096, stream));
    WRONG(SUCCESS, "not ordered after cuMemcpyHtoDAsync", cuMemsetD8Async(r.at + 4095, 0, 64, other));
    WRONG(SUCCESS, "not ordered", cuMemcpyDtoHAsync_v2((char *)staging + 4096, r.at, 64, other));
    OK(cuMemcpyHtoDAsync_v2(r.at + 8192, staging, 4096, other)); /* reading one source twice is fine */
    WRONG(SUCCESS, "not ordered", cuMemcpyDtoH_v2(&byte, r.at, 1)); /* a call without a stream is no better */
    hoist_standin_hold(0);
    OK(cuCtxSynchronize());

    char *copied = pages(8192, PROT_READ | PROT_WRITE); /* unmapped while a copy from it is queued */
    OK(cuMemHostRegister_v2(copied, 8192, 0));
    hoist_standin_hold(1);
    OK(cuMemcpyHtoDAsync_v2(r.at, copied, 8192, stream));
    munmap(copied, 8192);
    hoist_standin_hold(0);
    WRONG(SUCCESS, "cannot be read when the copy runs", cuStreamSynchronize(stream));
    WRONG(SUCCESS, "unmapped while it was registered", cuMemHostUnregister(copied));

    OK(cuMemFreeHost(staging));
    OK(cuStreamDestroy_v2(stream));
    OK(cuStreamDestroy_v2(other));
    end(r);
    finish();
}

static void memory_under_way(void)
{
    void *stream = NULL, *staging = NULL;
    start();
    struct region r = region(GRANULE, &plain);
    char *own = pages(4096, PROT_READ | PROT_WRITE);
    OK(cuStreamCreate(&stream, NON_BLOCKING));
    OK(cuMemHostAlloc(&staging, 4096, 0));
    OK(cuMemHostRegister_v2(own, 4096, 0));

    hoist_standin_hold(1); /* each of these reports, waits for the work, and then does what it was asked */
    OK(cuMemcpyHtoDAsync_v2(r.at, own, 4096, stream));
    WRONG(SUCCESS, "cuMemHostUnregister: queued work still uses", cuMemHostUnregister(own));
    OK(cuMemcpyHtoDAsync_v2(r.at, staging, 4096, stream));
    WRONG(SUCCESS, "cuMemFreeHost: queued work still uses", cuMemFreeHost(staging));
    OK(cuMemsetD8Async(r.at, 1, 4096, stream));
    OK(cuMemSetAccess(r.at, GRANULE, &read_write, 1)); /* takes nothing away */
    WRONG(SUCCESS, "cuMemSetAccess: queued work still uses", cuMemSetAccess(r.at, GRANULE, &read_only, 1));
    OK(cuMemSetAccess(r.at, GRANULE, &read_write, 1));
    OK(cuMemsetD8Async(r.at + 4096, 1, 4096, stream));
    OK(cuMemRelease(r.handle)); /* the mapping keeps the memory */
    BAD("still mapped", cuMemAddressFree(r.at, GRANULE));
    WRONG(SUCCESS, "cuMemUnmap: queued work still uses", cuMemUnmap(r.at, GRANULE));
    OK(cuMemAddressFree(r.at, GRANULE));
    OK(cuStreamQuery(stream));
    OK(cuStreamDestroy_v2(stream));
    hoist_standin_hold(0);
    munmap(own, 4096);
    finish();
}

/* ---- Host memory --------------------------------------------------------------------------------------- */

static void registration(void)
{
    void *stream = NULL, *staging = NULL;
    start();
    struct region r = region(GRANULE, &plain);
    char *own = pages(16384, PROT_READ | PROT_WRITE), *fixed = pages(8192, PROT_READ);
    OK(cuStreamCreate(&stream, NON_BLOCKING));
    OK(cuMemHostAlloc(&staging, 4096, 0));
    BAD("empty", cuMemHostRegister_v2(own, 0, 0));
    BAD("empty", cuMemHostRegister_v2(NULL, 4096, 0));
    BAD("flags 0x10", cuMemHostRegister_v2(own, 4096, 16));
    BAD("device address", cuMemHostRegister_v2((void *)r.at, 4096, 0));
    ANSWERS(NOT_SUPPORTED, cuMemHostRegister_v2(own, 4096, 4));
    BAD("read-only", cuMemHostRegister_v2(fixed, 8192, 0));
    OK(cuMemHostRegister_v2(fixed, 8192, REGISTER_READ_ONLY));
    OK(cuMemcpyHtoDAsync_v2(r.at, fixed + 100, 8000, stream));
    BAD("registered as read-only", cuMemcpyDtoHAsync_v2(fixed, r.at, 64, stream));
    OK(cuStreamSynchronize(stream));
    OK(cuMemHostUnregister(fixed));
    hoist_standin_attribute(113, 0);
    ANSWERS(NOT_SUPPORTED, cuMemHostRegister_v2(fixed, 8192, REGISTER_READ_ONLY));
    hoist_standin_attribute(113, 1);
    hoist_standin_attribute(99, 0);
    ANSWERS(NOT_SUPPORTED, cuMemHostRegister_v2(own, 4096, 0));
    hoist_standin_attribute(99, 1);

    OK(cuMemHostRegister_v2(own + 4096, 4096, 1));
    ANSWERS(ALREADY_REGISTERED, cuMemHostRegister_v2(own, 16384, 0));
    ANSWERS(ALREADY_REGISTERED, cuMemHostRegister_v2(own + 4096, 4096, 0));
    ANSWERS(ALREADY_REGISTERED, cuMemHostRegister_v2(own + 100, 4000, 0)); /* its last page is locked */
    ANSWERS(ALREADY_REGISTERED, cuMemHostRegister_v2(staging, 4096, 0));
    OK(cuMemHostRegister_v2(own + 8192, 100, 0));
    OK(cuMemcpyHtoDAsync_v2(r.at, own + 4096, 4196, stream)); /* two registrations side by side are fine */
    BAD("part of the host range", cuMemcpyHtoDAsync_v2(r.at, own + 4096, 4197, stream));
    BAD("part of the host range", cuMemcpyHtoD_v2(r.at, own + 4000, 200));
    BAD("part of the host range", cuMemcpyDtoHAsync_v2(own + 4000, r.at, 200, stream));
    OK(cuStreamSynchronize(stream));
    BAD("inside a registration", cuMemHostUnregister(own + 4097));
    WRONG(NOT_REGISTERED, "not registered", cuMemHostUnregister(own));
    WRONG(NOT_REGISTERED, "not registered", cuMemHostUnregister(staging));
    BAD("not the start of a host allocation", cuMemFreeHost(own + 4096));
    IS(hoist_standin_registrations(), 2);
    OK(cuMemHostUnregister(own + 4096));
    OK(cuMemHostUnregister(own + 8192));
    WRONG(NOT_REGISTERED, "not registered", cuMemHostUnregister(own + 8192));
    mprotect(own, 4096, PROT_NONE);
    BAD("not mapped and readable", cuMemHostRegister_v2(own, 8192, 0));
    munmap(own + 12288, 4096);
    BAD("not mapped and readable", cuMemHostRegister_v2(own + 8192, 8192, 0));
    munmap(own, 12288);
    munmap(fixed, 8192);
    IS(hoist_standin_pageable_async_copies(), 0);

    BAD("size is 0", cuMemHostAlloc(&staging, 0, 0));
    BAD("flags 0x8", cuMemHostAlloc(&staging, 64, 8));
    BAD("null", cuMemHostAlloc(NULL, 64, 0));
    IS(*(unsigned char *)staging, 0xA5);
    BAD("not the start", cuMemFreeHost((char *)staging + 64));
    BAD("not the start", cuMemFreeHost(NULL));
    OK(cuMemFreeHost(staging));
    BAD("not the start", cuMemFreeHost(staging));
    OK(cuStreamDestroy_v2(stream));
    end(r);
    finish();
}

/* ---- Sharing ------------------------------------------------------------------------------------------- */

static void sharing_in_one_process(void)
{
    Handle secret = 0, imported = 0, again = 0;
    Address b = 0;
    int fd = -1, second = -1, ends[2];
    start();
    OK(cuMemCreate(&secret, GRANULE, &plain, 0));
    BAD("not created with this handle type", cuMemExportToShareableHandle(&fd, secret, POSIX_FD, 0));
    OK(cuMemRelease(secret));
    struct region r = region(GRANULE, &shareable);
    BAD("flags", cuMemExportToShareableHandle(&fd, r.handle, POSIX_FD, 1));
    BAD("handle type 2", cuMemExportToShareableHandle(&fd, r.handle, 2, 0));
    BAD("not a live memory handle", cuMemExportToShareableHandle(&fd, secret, POSIX_FD, 0));
    BAD("null", cuMemExportToShareableHandle(NULL, r.handle, POSIX_FD, 0));
    OK(cuMemExportToShareableHandle(&fd, r.handle, POSIX_FD, 0));
    OK(cuMemExportToShareableHandle(&second, r.handle, POSIX_FD, 0));
    IS(fd != second && fcntl(fd, F_GETFD) >= 0, 1);
    close(second);
    IS(pipe(ends), 0);
    BAD("not the descriptor of exported memory",
        cuMemImportFromShareableHandle(&imported, (void *)(uintptr_t)ends[0], POSIX_FD));
    close(ends[0]);
    close(ends[1]);
    BAD("not the descriptor",
        cuMemImportFromShareableHandle(&imported, (void *)(uintptr_t)ends[0], POSIX_FD));
    BAD("handle type 8", cuMemImportFromShareableHandle(&imported, (void *)(uintptr_t)fd, 8));
    OK(cuMemImportFromShareableHandle(&imported, (void *)(uintptr_t)fd, POSIX_FD));
    OK(cuMemImportFromShareableHandle(&again, (void *)(uintptr_t)fd, POSIX_FD));
    IS(imported != again && imported != r.handle && fcntl(fd, F_GETFD) >= 0, 1); /* it stays the caller's */
    IS(hoist_standin_allocations(), 1);
    OK(cuMemRelease(again));
    OK(cuMemAddressReserve(&b, GRANULE, 0, 0, 0));
    OK(cuMemMap(b, GRANULE, 0, imported, 0));
    OK(cuMemSetAccess(b, GRANULE, &read_only, 1));
    OK(cuMemcpyHtoD_v2(r.at, "shared", 7));
    IS(strcmp((char *)b, "shared"), 0);
    end(r);
    IS(unused(), 1024 * MIB - GRANULE);
    OK(cuMemUnmap(b, GRANULE));
    OK(cuMemRelease(imported));
    IS(unused(), 1024 * MIB - GRANULE); /* an open descriptor is a reference like the others */
    IS(hoist_standin_allocations(), 1);
    close(fd);
    IS(unused(), 1024 * MIB);
    OK(cuMemAddressFree(b, GRANULE));
    finish();
}

static void send_descriptor(int to, int fd)
{
    char byte = 'x', room[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    message.msg_control = room, message.msg_controllen = sizeof room;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
    IS(sendmsg(to, &message, 0), 1);
}

static int receive_descriptor(int from)
{
    char byte, room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    message.msg_control = room, message.msg_controllen = sizeof room;
    int fd = -1;
    if (recvmsg(from, &message, MSG_CMSG_CLOEXEC) == 1)
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

/* Runs this program again in a mode of its own, with settings in the environment; answers as waitpid does. */
static int run_again(const char *mode, int socket, const char *settings[])
{
    pid_t child = fork();
    if (!child) {
        char number[16];
        for (size_t i = 0; settings && settings[i]; i += 2) setenv(settings[i], settings[i + 1], 1);
        snprintf(number, sizeof number, "%d", socket);
        execl(program, program, library, mode, number, (char *)NULL);
        _exit(99);
    }
    return (int)child;
}

static int outcome(int child)
{
    int status = -1;
    waitpid(child, &status, 0);
    return status;
}

/* The other process of sharing: reads through a mapping for reading, then writes through another. */
static void importer(int socket)
{
    char bytes[16] = "";
    Handle handle = 0;
    Address a = 0, b = 0;
    start();
    int fd = receive_descriptor(socket);
    OK(cuMemImportFromShareableHandle(&handle, (void *)(uintptr_t)fd, POSIX_FD));
    close(fd); /* an import holds its own reference */
    IS(unused(), 1024 * MIB); /* the exporter is charged, not this process */
    BAD("maps", (cuMemAddressReserve(&a, 4 * GRANULE, 0, 0, 0), cuMemMap(a, 4 * GRANULE, 0, handle, 0)));
    OK(cuMemMap(a, GRANULE, 0, handle, 0));
    OK(cuMemSetAccess(a, GRANULE, &read_only, 1));
    OK(cuMemcpyDtoH_v2(bytes, a, sizeof bytes));
    IS(strcmp(bytes, "from the parent"), 0);
    BAD("may only read", cuMemcpyHtoD_v2(a, "no", 3));
    OK(cuMemAddressReserve(&b, GRANULE, 0, 0, 0));
    OK(cuMemMap(b, GRANULE, 0, handle, 0));
    OK(cuMemSetAccess(b, GRANULE, &read_write, 1));
    OK(cuMemcpyHtoD_v2(b + 4096, "from the child", 15));
    OK(cuMemUnmap(a, GRANULE));
    OK(cuMemUnmap(b, GRANULE));
    OK(cuMemRelease(handle));
    OK(cuMemAddressFree(a, 4 * GRANULE));
    OK(cuMemAddressFree(b, GRANULE));
    finish();
}

static void sharing_between_processes(void)
{
    char bytes[16] = "";
    int fd = -1, ends[2] = {-1, -1};
    start();
    struct region r = region(GRANULE, &shareable);
    OK(cuMemcpyHtoD_v2(r.at, "from the parent", 16));
    OK(cuMemExportToShareableHandle(&fd, r.handle, POSIX_FD, 0));
    IS(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    int child = run_again("importer", ends[1], NULL);
    send_descriptor(ends[0], fd);
    close(fd);
    IS(outcome(child), 0);
    OK(cuMemcpyDtoH_v2(bytes, r.at + 4096, 15));
    IS(strcmp(bytes, "from the child"), 0);
    close(ends[0]);
    close(ends[1]);
    end(r);
    finish();
}

/* A process that forks keeps the library, but not the driver. */
static void forked(void)
{
    start();
    pid_t child = fork();
    if (!child) {
        int n;
        WRONG(NOT_INITIALIZED, "in a fork", cuDeviceGetCount(&n));
        WRONG(NOT_INITIALIZED, "in a fork", cuInit(0));
        _exit(failures != 0);
    }
    lines += 2; /* of the child, into the same file */
    IS(outcome((int)child), 0);
    finish();
}

/* ---- Several devices ----------------------------------------------------------------------------------- */

static void two_devices(void)
{
    static const struct properties on_second = {PINNED, 0, {DEVICE, 1}, NULL, {0, 0, 0, {0}}};
    static const struct access both[2] = {{{DEVICE, 0}, READ}, {{DEVICE, 1}, READ_WRITE}};
    static const struct access taken[2] = {{{DEVICE, 1}, 0}, {{DEVICE, 0}, READ}};
    void *second = NULL, *stream = NULL, *event = NULL, *staging = NULL;
    Address a = 0;
    Handle handle = 0;
    char bytes[64] = "";
    start();
    hoist_standin_set_devices(2);
    OK(cuDevicePrimaryCtxRetain(&second, 1));
    IS(second != context, 1);
    OK(cuMemHostAlloc(&staging, 4096, 0));
    OK(cuMemCreate(&handle, GRANULE, &on_second, 0));
    IS(unused(), 1024 * MIB); /* charged to the other device */
    OK(cuMemAddressReserve(&a, GRANULE, 0, 0, 0));
    OK(cuMemMap(a, GRANULE, 0, handle, 0));
    OK(cuMemSetAccess(a, GRANULE, &both[1], 1));
    BAD("device 0 has no access", cuMemcpyHtoD_v2(a, bytes, 64));
    OK(cuCtxSetCurrent(second));
    IS(unused(), 1022 * MIB);
    OK(cuMemcpyHtoD_v2(a, bytes, 64));
    OK(cuStreamCreate(&stream, NON_BLOCKING));
    OK(cuEventCreate(&event, 0));
    OK(cuCtxSetCurrent(context));
    BAD("device 0 has no access", cuMemcpyHtoDAsync_v2(a, staging, 64, stream));
    OK(cuMemSetAccess(a, GRANULE, both, 2));
    OK(cuMemcpyDtoHAsync_v2(staging, a, 64, stream));
    BAD("device 0 may only read", cuMemcpyHtoDAsync_v2(a, staging, 64, stream));
    OK(cuStreamSynchronize(stream));
    OK(cuMemSetAccess(a, GRANULE, taken, 2));
    BAD("device 1 has no access", cuMemcpyDtoHAsync_v2(staging, a, 64, stream)); /* nor has the stream */
    OK(cuEventRecord(event, stream));
    WRONG(INVALID_HANDLE, "different contexts", cuEventRecord(event, NULL));
    OK(cuEventSynchronize(event));
    OK(cuEventDestroy_v2(event));
    OK(cuStreamDestroy_v2(stream));
    OK(cuMemUnmap(a, GRANULE));
    OK(cuMemRelease(handle));
    OK(cuMemAddressFree(a, GRANULE));
    OK(cuDevicePrimaryCtxRelease_v2(1));
    OK(cuMemFreeHost(staging));
    finish();
}

/* ---- What is left at the end --------------------------------------------------------------------------- */

static void expect_leak(const char *text)
{
    judge(__LINE__, text, cuDevicePrimaryCtxRelease_v2(0), SUCCESS, text);
}

static void leaks(void)
{
    void *object = NULL;
    Handle handle = 0;
    Address a = 0;
    int fd = -1;
    start();
    OK(cuStreamCreate(&object, 0));
    expect_leak("1 streams are left");
    IS(hoist_standin_streams(), 0); /* gone with the context */
    start();
    OK(cuEventCreate(&object, 0));
    OK(cuEventCreate(&object, 0));
    expect_leak("2 events are left");
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    WRONG(INVALID_HANDLE, "not a live event", cuEventQuery(object));
    OK(cuMemHostAlloc(&object, 64, 0));
    expect_leak("1 host allocations are left");
    start();
    char *own = pages(4096, PROT_READ | PROT_WRITE);
    OK(cuMemHostRegister_v2(own, 4096, 0));
    expect_leak("1 host registrations are left");
    munmap(own, 4096);
    start();
    OK(cuMemAddressReserve(&a, GRANULE, 0, 0, 0));
    expect_leak("1 address reservations are left");
    OK(cuMemAddressFree(a, GRANULE)); /* they have no context and can be given back later */
    start();
    OK(cuMemCreate(&handle, GRANULE, &shareable, 0));
    expect_leak("1 memory handles are left");
    OK(cuMemExportToShareableHandle(&fd, handle, POSIX_FD, 0));
    OK(cuMemRelease(handle));
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    expect_leak("1 open exported descriptors are left");
    close(fd);
    start();
    struct region r = region(GRANULE, &plain);
    OK(cuMemRelease(r.handle));
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuDevicePrimaryCtxRelease_v2(0)); /* not the last one: nothing is said */
    unsigned long before = hoist_standin_violations();
    cuDevicePrimaryCtxRelease_v2(0);
    IS((seen = hoist_standin_violations()) - before, 2); /* the mapping and the reservation */
    lines += 2;
    reset();
    IS(hoist_standin_mappings() + hoist_standin_reservations() + hoist_standin_allocations(), 0);
}

/* ---- What tests ask for -------------------------------------------------------------------------------- */

static void *synchronize(void *stream)
{
    int result = cuCtxSetCurrent(context);
    return (void *)(intptr_t)(result ? result : cuStreamSynchronize(stream));
}

static void asked_failures(void)
{
    Handle handle = 0;
    void *stream = NULL;
    start();
    hoist_standin_fail("cuMemCreate", OUT_OF_MEMORY, 2);
    OK(cuMemCreate(&handle, GRANULE, &plain, 0));
    OK(cuMemRelease(handle));
    ANSWERS(OUT_OF_MEMORY, cuMemCreate(&handle, GRANULE, &plain, 0));
    OK(cuMemCreate(&handle, GRANULE, &plain, 0));
    OK(cuMemRelease(handle));
    IS(hoist_standin_calls("cuMemCreate"), 3);
    hoist_standin_fail("cuStreamDestroy_v2", 999, 1); /* with or without the version */
    hoist_standin_fail("cuStreamDestroy", INVALID_HANDLE, 2);
    OK(cuStreamCreate(&stream, 0));
    ANSWERS(999, cuStreamDestroy_v2(stream));
    ANSWERS(INVALID_HANDLE, cuStreamDestroy_v2(stream));
    OK(cuStreamDestroy_v2(stream));
    hoist_standin_fail("cuMemRelease", 999, 1);
    hoist_standin_fail("cuMemRelease", 0, 0); /* taken back */
    WRONG(0, "hoist_standin_calls: there is no call cuMemkreate", (int)hoist_standin_calls("cuMemkreate"));
    hoist_standin_hang("nothing", 1);
    LATER("hoist_standin_hang: there is no call nothing");
    finish();
}

static void a_hanging_call(void)
{
    void *stream = NULL, *answer = NULL;
    pthread_t thread;
    start();
    OK(cuStreamCreate(&stream, 0));
    hoist_standin_hang("cuStreamSynchronize", 1);
    pthread_create(&thread, NULL, synchronize, stream);
    while (!hoist_standin_calls("cuStreamSynchronize")) usleep(1000);
    usleep(20000);
    IS(pthread_tryjoin_np(thread, &answer) != 0, 1);
    OK(cuStreamQuery(stream)); /* the others go on */
    hoist_standin_hang("cuStreamSynchronize", 0);
    pthread_join(thread, &answer);
    IS((intptr_t)answer, 0);
    OK(cuStreamDestroy_v2(stream));
    finish();
}

static void a_poisoned_context(void)
{
    void *stream = NULL, *event = NULL, *current = NULL, *answer = NULL;
    const char *name;
    pthread_t thread;
    int n;
    start();
    struct region r = region(GRANULE, &plain);
    OK(cuStreamCreate(&stream, NON_BLOCKING));
    OK(cuEventCreate(&event, 0));
    hoist_standin_hold(1);
    OK(cuMemsetD8Async(r.at, 55, 64, stream));
    pthread_create(&thread, NULL, synchronize, stream);
    while (!hoist_standin_calls("cuStreamSynchronize")) usleep(1000);
    hoist_standin_poison(ILLEGAL_ADDRESS);
    pthread_join(thread, &answer); /* a caller that waits gets the error as well */
    IS((intptr_t)answer, ILLEGAL_ADDRESS);
    hoist_standin_hold(0);
    IS(*(unsigned char *)r.at != 55, 1); /* the work was given up */
    ANSWERS(ILLEGAL_ADDRESS, cuStreamSynchronize(stream));
    ANSWERS(ILLEGAL_ADDRESS, cuEventQuery(event));
    ANSWERS(ILLEGAL_ADDRESS, cuEventDestroy_v2(event));
    ANSWERS(ILLEGAL_ADDRESS, cuMemUnmap(r.at, GRANULE));
    ANSWERS(ILLEGAL_ADDRESS, cuCtxSynchronize());
    OK(cuDeviceGetCount(&n));
    OK(cuCtxGetCurrent(&current));
    OK(cuGetErrorName(ILLEGAL_ADDRESS, &name));
    OK(cuDevicePrimaryCtxRelease_v2(0)); /* ends the state; what could not be given back is no leak */
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSynchronize());
    WRONG(INVALID_HANDLE, "not a live stream", cuStreamQuery(stream));
    end(r);
    finish();
}

/* In a process of its own, with settings from the environment. */
static void settings_from_environment(void)
{
    size_t bytes = 0, all = 0;
    int n = 0;
    ANSWERS(999, cuInit(0));
    OK(cuInit(0));
    OK(cuDeviceGetCount(&n));
    IS(n, 3);
    OK(cuDevicePrimaryCtxRetain(&context, 2));
    OK(cuCtxSetCurrent(context));
    ANSWERS(OUT_OF_MEMORY, cuMemGetInfo_v2(&bytes, &all));
    OK(cuMemGetInfo_v2(&bytes, &all));
    IS(bytes == 60 * MIB && all == 64 * MIB, 1);
}

static void environment(void)
{
    const char *settings[] = {
        "HOIST_STANDIN_TOTAL", "0x4000000", "HOIST_STANDIN_USE", "4194304", "HOIST_STANDIN_DEVICES", "3",
        "HOIST_STANDIN_FAIL", "cuInit:999:1,cuMemGetInfo:2:1", NULL, NULL,
    };
    const char *strict[] = {"HOIST_STANDIN_VIOLATIONS", "abort", NULL, NULL};
    reset();
    IS(outcome(run_again("settings", 0, settings)), 0);
    int status = outcome(run_again("violate", 0, strict));
    IS(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, 1);
    lines++; /* of the child that was ended */
}

/* ---- Many threads -------------------------------------------------------------------------------------- */

struct worker { struct region region; int number; unsigned long wrong; };

/* Two buffers in turn, as a loader does it: a buffer is written again only after its event. */
static void *load(void *argument)
{
    struct worker *worker = argument;
    void *stream = NULL, *event[2] = {NULL, NULL}, *buffer[2] = {NULL, NULL};
    unsigned long wrong = 0;
    wrong += (unsigned)cuCtxSetCurrent(context) + (unsigned)cuStreamCreate(&stream, NON_BLOCKING);
    for (int i = 0; i < 2; i++)
        wrong += (unsigned)cuEventCreate(&event[i], 2) + (unsigned)cuMemHostAlloc(&buffer[i], 65536, 0);
    for (int i = 0; i < 32 && !wrong; i++) {
        wrong += (unsigned)cuEventSynchronize(event[i % 2]);
        memset(buffer[i % 2], worker->number * 32 + i, 65536);
        Address to = worker->region.at + (size_t)i * 65536;
        wrong += (unsigned)cuMemcpyHtoDAsync_v2(to, buffer[i % 2], 65536, stream);
        wrong += (unsigned)cuEventRecord(event[i % 2], stream);
    }
    wrong += (unsigned)cuStreamSynchronize(stream);
    for (int i = 0; i < 32; i++)
        wrong += ((unsigned char *)worker->region.at)[(size_t)i * 65536 + 65535] !=
                 (unsigned char)(worker->number * 32 + i);
    for (int i = 0; i < 2; i++)
        wrong += (unsigned)cuEventDestroy_v2(event[i]) + (unsigned)cuMemFreeHost(buffer[i]);
    wrong += (unsigned)cuStreamDestroy_v2(stream);
    worker->wrong = wrong;
    return NULL;
}

static void many_threads(void)
{
    struct worker workers[6];
    pthread_t threads[6];
    start();
    for (int i = 0; i < 6; i++) workers[i] = (struct worker){region(GRANULE, &plain), i, 0};
    for (int i = 0; i < 6; i++) pthread_create(&threads[i], NULL, load, &workers[i]);
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
        IS(workers[i].wrong, 0);
        end(workers[i].region);
    }
    finish();
}

/* A loader that forgets the event of its buffer is caught, though nothing holds the queue. */
static void a_careless_loader(void)
{
    void *stream = NULL, *buffer = NULL;
    unsigned long before;
    start();
    struct region r = region(GRANULE, &plain);
    OK(cuStreamCreate(&stream, NON_BLOCKING));
    OK(cuMemHostAlloc(&buffer, 65536, 0));
    before = hoist_standin_violations();
    for (int i = 0; i < 32; i++) {
        memset(buffer, i + 1, 65536);
        cuMemcpyHtoDAsync_v2(r.at + (size_t)i * 65536, buffer, 65536, stream);
    }
    cuStreamSynchronize(stream);
    seen = hoist_standin_violations();
    lines += seen - before;
    IS(seen - before >= 5, 1);
    OK(cuMemFreeHost(buffer));
    OK(cuStreamDestroy_v2(stream));
    end(r);
    finish();
}

/* ---- The whole ----------------------------------------------------------------------------------------- */

/* Every violation must have written one line, and nothing else may have been written. */
static void check_lines(FILE *written)
{
    static const char start_of_line[] = "driver stand-in: VIOLATION: ";
    char line[1024];
    unsigned long found = 0;
    rewind(written);
    while (fgets(line, sizeof line, written)) {
        if (strncmp(line, start_of_line, sizeof start_of_line - 1)) failed(__LINE__, "on stderr: %s", line);
        else found++;
    }
    if (found != lines) failed(__LINE__, "%lu lines on stderr, %lu violations", found, lines);
}

static void resolve(void)
{
    void *opened = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!opened) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
#define RESOLVE(answer, name, arguments)                                                                    \
    if (!(*(void **)&name = dlsym(opened, #name))) failed(__LINE__, "%s is missing", #name);
    CALLS(RESOLVE)
    if (failures) exit(2);
}

static const struct { const char *name; void (*run)(void); } tests[] = {
    {"nothing_before_init", nothing_before_init}, {"devices", devices}, {"contexts", contexts},
    {"reservations", reservations}, {"creation", creation}, {"mapping", mapping},
    {"access_rights", access_rights}, {"copies", copies}, {"queued_work", queued_work},
    {"stream_rules", stream_rules}, {"event_rules", event_rules}, {"buffers_under_way", buffers_under_way},
    {"memory_under_way", memory_under_way}, {"registration", registration},
    {"sharing_in_one_process", sharing_in_one_process}, {"forked", forked},
    {"sharing_between_processes", sharing_between_processes}, {"two_devices", two_devices}, {"leaks", leaks},
    {"asked_failures", asked_failures}, {"a_hanging_call", a_hanging_call},
    {"a_poisoned_context", a_poisoned_context}, {"environment", environment}, {"many_threads", many_threads},
    {"a_careless_loader", a_careless_loader},
};

int main(int count, char **arguments)
{
    if (count < 2) {
        fprintf(stderr, "usage: %s LIBRARY [TEST]\n", arguments[0]);
        return 2;
    }
    const char *mode = count > 2 ? arguments[2] : "";
    program = arguments[0], library = arguments[1];
    resolve();
    if (!strcmp(mode, "settings") && count > 3) return settings_from_environment(), failures != 0;
    if (!strcmp(mode, "violate") && count > 3) return cuCtxSynchronize();
    FILE *written = tmpfile();
    errors_to = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    dup2(fileno(written), STDERR_FILENO);
    if (!strcmp(mode, "importer") && count > 3) importer(atoi(arguments[3]));
    else
        for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
            int before = failures;
            if (*mode && strcmp(mode, tests[i].name)) continue;
            tests[i].run();
            if (failures != before) dprintf(errors_to, "FAILED: %s\n", tests[i].name);
        }
    reset();
    check_lines(written);
    if (count == 2) printf("%lu checks, %lu violations provoked, %d failures\n", checks, lines, failures);
    return failures != 0;
}
