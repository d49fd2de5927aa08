/*
 * A strict stand-in for the library of the driver API (libcuda.so.1), over host memory.
 *
 * Tests load it in place of the real library on a machine without a GPU. It does what the called functions
 * are documented to do, and it checks every call against the documented rules. A use that the documentation
 * forbids or leaves undefined is a violation: one line on stderr, counted, and the end of the process where
 * HOIST_STANDIN_VIOLATIONS=abort. An error that right use can meet (out of memory, not ready, a failure that
 * a test asked for) is only answered.
 *
 * How it is built:
 *   - Device memory is a memfd; a device address is a host address inside a reservation (mmap without
 *     access), and a mapping puts the memfd there. Exporting hands out a duplicate of the descriptor.
 *   - Each stream is a thread with a queue. A queued copy reads its source when it runs, after a short random
 *     pause.
 *   - One mutex guards all state. One condition variable tells of every change. Queued work runs without the
 *     mutex: what would take memory away from it waits for it first (and reports it).
 *   - Handles are numbers that are never used twice, so a stale one is always noticed.
 *
 * Host memory is read and written by process_vm_readv, so a bad host pointer is an answer, not a crash.
 * README.md says where this is stricter than the documentation and what it cannot tell.
 */
#define _GNU_SOURCE
#include <cuda.h>

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAX_DEVICES 8
#define GRANULARITY ((size_t)2 << 20) /* bytes; what real devices answer for both kinds of granularity */
#define PAGE ((size_t)4096)           /* bytes */
#define CHUNK 16384                   /* bytes of host memory looked at in one go; a multiple of 8 */
#define NEW_BYTE 0xA5                 /* fills the first page of each granule of new memory: it is no zero */
#define UNWRITTEN_BYTE 0xDB           /* fills the destination of a copy to the host until the copy runs */
#define RESERVED (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)
#define MEMORY_NAME "hoist-standin-device-"

/* ---- State --------------------------------------------------------------------------------------------- */

/* Physical memory. Lives while a handle or a mapping names it, or an exported descriptor is still open
 * here. */
struct memory {
    struct memory *next;
    int fd, device;
    dev_t volume; /* the volume and the inode tell which memfd a descriptor is of */
    ino_t inode;
    size_t size;
    unsigned handles, mappings;
    bool imported;   /* another process made it and is charged for it */
    bool exportable; /* its maker asked for a file descriptor handle */
    bool shared;     /* it has been exported or imported, so descriptors of it may be open */
};
struct handle { struct handle *next; unsigned long long id; struct memory *memory; };
struct reservation { struct reservation *next; CUdeviceptr base; size_t size; };
struct mapping {
    struct mapping *next;
    CUdeviceptr base;
    size_t size;
    struct memory *memory;
    int access[MAX_DEVICES]; /* 0 none, 1 read, 3 read and write */
};
/* Page-locked host memory: allocated by the library, or the caller's and registered. */
struct pinned { struct pinned *next; uint64_t base; size_t size; int device; bool registered, read_only; };
struct event {
    struct event *next;
    unsigned long long id, wanted, done; /* complete when done has reached wanted; both 0: never recorded */
    int device;
    unsigned flags;
    double at; /* milliseconds, when it completed last */
};
enum kind { HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE, FILL, RECORD };
/* One piece of work. Host and device share one address space, so a range is an address and the size. */
struct op {
    struct op *next;
    const char *call;
    enum kind kind;
    uint64_t write, read; /* 0: it writes or reads nothing */
    size_t size;
    unsigned char value;             /* of a fill */
    bool guarded;                    /* the host side is watched for changes until it runs */
    unsigned long long sum;          /* of the guarded source */
    unsigned long long event, ticket; /* of a record */
};
struct stream {
    struct stream *next;
    unsigned long long id;
    int device;
    bool blocking, closing; /* closing: destroyed by the caller, its thread finishes the queue */
    struct op *head, **tail;
};
/* One of the calls. It fails with the code when "after" has come down to 0. */
struct entry {
    const char *name;
    unsigned long calls;
    bool hung;
    struct { unsigned after; int code; } fail[8];
};

#define ENTRY(call) {.name = #call}
static struct entry entries[] = {
    ENTRY(cuInit), ENTRY(cuDriverGetVersion), ENTRY(cuDeviceGetCount), ENTRY(cuDeviceGet),
    ENTRY(cuDeviceGetName), ENTRY(cuDeviceGetUuid), ENTRY(cuDeviceGetAttribute), ENTRY(cuDeviceTotalMem),
    ENTRY(cuDeviceGetPCIBusId), ENTRY(cuDevicePrimaryCtxRetain), ENTRY(cuDevicePrimaryCtxRelease),
    ENTRY(cuCtxSetCurrent), ENTRY(cuCtxGetCurrent), ENTRY(cuCtxSynchronize), ENTRY(cuGetErrorName),
    ENTRY(cuGetErrorString), ENTRY(cuMemGetInfo), ENTRY(cuMemGetAllocationGranularity), ENTRY(cuMemCreate),
    ENTRY(cuMemRelease), ENTRY(cuMemAddressReserve), ENTRY(cuMemAddressFree), ENTRY(cuMemMap),
    ENTRY(cuMemUnmap), ENTRY(cuMemSetAccess), ENTRY(cuMemExportToShareableHandle),
    ENTRY(cuMemImportFromShareableHandle), ENTRY(cuMemHostAlloc), ENTRY(cuMemFreeHost),
    ENTRY(cuMemHostRegister), ENTRY(cuMemHostUnregister), ENTRY(cuMemcpyHtoDAsync),
    ENTRY(cuMemcpyDtoHAsync), ENTRY(cuMemcpyHtoD), ENTRY(cuMemcpyDtoH), ENTRY(cuMemcpyDtoDAsync),
    ENTRY(cuMemsetD8Async), ENTRY(cuStreamCreate), ENTRY(cuStreamDestroy), ENTRY(cuStreamSynchronize),
    ENTRY(cuStreamQuery), ENTRY(cuEventCreate), ENTRY(cuEventRecord), ENTRY(cuEventSynchronize),
    ENTRY(cuEventQuery), ENTRY(cuEventDestroy), ENTRY(cuEventElapsedTime),
};

/* What the devices say of themselves. The bus is hexadecimal 3B and up: its name has a letter, as real
 * ones do. */
static const struct attribute { int name, value; } attributes[] = {
    {CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, 1},
    {CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS, 0},
    {CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES, 0},
    {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
    {CU_DEVICE_ATTRIBUTE_INTEGRATED, 0},
    {CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, CU_COMPUTEMODE_DEFAULT},
    {CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 2},
    {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9},
    {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0},
    {CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID, 0},
    {CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, 0x3B},
    {CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, 0},
    {CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID, 0},
};
#define ATTRIBUTES (sizeof attributes / sizeof *attributes)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t moving = PTHREAD_MUTEX_INITIALIZER; /* taken last, and only to move bytes */

static struct memory *memories;
static struct handle *handles;
static struct reservation *reservations;
static struct mapping *mappings;
static struct pinned *pins;
static struct event *events;
static struct stream *streams;

static bool initialised;
static pid_t owner;                  /* the process that called cuInit */
static int device_count, attribute_values[ATTRIBUTES];
static size_t total, others;         /* bytes of each device; bytes that other processes take there */
static unsigned references[MAX_DEVICES];
static CUresult sticky;              /* what every call in a context answers, 0 none */
static bool held;                    /* no queued work starts */
static int draining;                 /* calls that must have work done first: it starts though held */
static unsigned long violations, pageable, contextless;
static char last_violation[512];
static bool abort_on_violation;
static unsigned pause_limit = 200;   /* microseconds before queued work runs, at most */
static uint64_t random_state = 1;
static unsigned long long last_id = 0x1000, last_ticket;
static unsigned generation = 1;      /* of the state; a thread's current context belongs to one */

static _Thread_local const char *calling = "none";
static _Thread_local int current_device = -1;
static _Thread_local unsigned current_generation;

/* ---- Small tools --------------------------------------------------------------------------------------- */

/* Takes an item out of its list. */
#define UNLINK(list, item)                                                                                  \
    do {                                                                                                    \
        __typeof__(item) *at_ = &(list);                                                                    \
        while (*at_ != (item)) at_ = &(*at_)->next;                                                         \
        *at_ = (item)->next;                                                                                \
    } while (0)
#define PUSH(list, item) ((item)->next = (list), (list) = (item))
#define COUNT(type, list, condition)                                                                        \
    ({                                                                                                      \
        size_t n_ = 0;                                                                                      \
        for (type *it = (list); it; it = it->next) n_ += (condition) ? 1 : 0;                               \
        n_;                                                                                                 \
    })

__attribute__((format(printf, 1, 2))) static void violation(const char *format, ...)
{
    va_list arguments;
    int n = snprintf(last_violation, sizeof last_violation, "driver stand-in: VIOLATION: %s: ", calling);
    va_start(arguments, format);
    vsnprintf(last_violation + n, sizeof last_violation - (size_t)n, format, arguments);
    va_end(arguments);
    dprintf(STDERR_FILENO, "%s\n", last_violation);
    violations++;
    if (abort_on_violation) abort();
}
#define wrong(code, ...) (violation(__VA_ARGS__), (code))
#define INVALID(...) wrong(CUDA_ERROR_INVALID_VALUE, __VA_ARGS__)
#define NO_RESULT(pointer)                                                                                  \
    if (!(pointer)) return INVALID("the pointer for the result is null")

static void *make(size_t size)
{
    void *made = calloc(1, size);
    if (!made) abort();
    return made;
}

static bool meets(uint64_t a, size_t a_size, uint64_t b, size_t b_size)
{
    return a && b && a_size && b_size && a < b + b_size && b < a + a_size;
}

static bool within(uint64_t at, size_t size, uint64_t base, size_t base_size)
{
    return at >= base && at - base <= base_size && size <= base_size - (at - base);
}

static double milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static unsigned random_below(unsigned limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return limit ? (unsigned)(random_state % limit) : 0;
}

/* ---- Entering a call ----------------------------------------------------------------------------------- */

/* What a call needs. CONTEXT where the documentation lists CUDA_ERROR_INVALID_CONTEXT among the call's own
 * answers. */
enum { NOTHING = 0, INIT = 1, STICKY = 2, CONTEXT = 4, VMM = 8 };

/* The record of a call. A name may carry a version (cuMemHostRegister_v2). */
static struct entry *entry_of(const char *name)
{
    size_t length = strlen(name);
    if (length > 3 && name[length - 3] == '_' && name[length - 2] == 'v') length -= 3;
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        if (strlen(entries[i].name) == length && !strncmp(entries[i].name, name, length)) return &entries[i];
    return NULL;
}

static int asked_failure(struct entry *entry)
{
    int code = 0;
    for (size_t i = 0; i < sizeof entry->fail / sizeof *entry->fail; i++)
        if (entry->fail[i].after && !--entry->fail[i].after) code = entry->fail[i].code;
    return code;
}

static int current(void) { return current_generation == generation ? current_device : -1; }

static CUresult enter(const char *function, int needs)
{
    struct entry *entry = entry_of(function);
    calling = entry->name;
    entry->calls++;
    pthread_cond_broadcast(&changed);
    while (entry->hung) pthread_cond_wait(&changed, &lock);
    int asked = asked_failure(entry);
    if (asked) return (CUresult)asked;
    if (!needs) return CUDA_SUCCESS;
    if (!initialised) return wrong(CUDA_ERROR_NOT_INITIALIZED, "called before cuInit");
    if (owner != getpid()) return wrong(CUDA_ERROR_NOT_INITIALIZED, "called in a fork of the first process");
    if (needs & CONTEXT) {
        if (current() < 0) return wrong(CUDA_ERROR_INVALID_CONTEXT, "no context is current on this thread");
        if (!references[current()])
            return wrong(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the current context has been released");
    }
    if (needs & VMM) {
        if (current() < 0 || !references[current()]) contextless++;
        if (!attribute_values[0]) return CUDA_ERROR_NOT_SUPPORTED; /* the first one is of these calls */
    }
    return needs & (STICKY | CONTEXT | VMM) ? sticky : CUDA_SUCCESS;
}

static pthread_mutex_t *take(void)
{
    pthread_mutex_lock(&lock);
    return &lock;
}
static void give(pthread_mutex_t **mutex) { pthread_mutex_unlock(*mutex); }
static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }

/* The mutex is taken to the end of the function. */
#define LOCKED __attribute__((cleanup(give), unused)) pthread_mutex_t *locked_ = take()
#define CALL(needs)                                                                                         \
    LOCKED;                                                                                                 \
    do {                                                                                                    \
        CUresult early_ = enter(__func__, needs);                                                           \
        if (early_) return early_;                                                                          \
    } while (0)

/* ---- Host memory --------------------------------------------------------------------------------------- */

/* Copies where either side may be bad memory. False where a byte could not be read or written. */
static bool careful_copy(uint64_t to, uint64_t from, size_t size)
{
    while (size) {
        struct iovec local = {(void *)to, size}, remote = {(void *)from, size};
        ssize_t n = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
        if (n < 0 && (errno == ENOSYS || errno == EPERM)) { /* not allowed here: bad memory is then a crash */
            memcpy((void *)to, (void *)from, size);
            return true;
        }
        if (n <= 0) return false;
        to += (size_t)n, from += (size_t)n, size -= (size_t)n;
    }
    return true;
}

static unsigned long long mix(unsigned long long sum, const unsigned char *bytes, size_t size)
{
    for (; size >= 8; bytes += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        sum = (sum ^ word) * 0x9E3779B97F4A7C15u;
        sum ^= sum >> 29;
    }
    while (size--) sum = (sum ^ *bytes++) * 0x100000001B3u;
    return sum;
}

static bool host_sum(uint64_t from, size_t size, unsigned long long *sum)
{
    unsigned char bytes[CHUNK];
    for (*sum = 0; size;) {
        size_t part = size < CHUNK ? size : CHUNK;
        if (!careful_copy((uintptr_t)bytes, from, part)) return false;
        *sum = mix(*sum, bytes, part);
        from += part, size -= part;
    }
    return true;
}

static bool host_fill(uint64_t to, size_t size, int value)
{
    unsigned char bytes[CHUNK];
    memset(bytes, value, sizeof bytes);
    for (; size; to += CHUNK, size -= CHUNK) {
        if (size <= CHUNK) return careful_copy(to, (uintptr_t)bytes, size);
        if (!careful_copy(to, (uintptr_t)bytes, CHUNK)) return false;
    }
    return true;
}

static bool host_is_all(uint64_t from, size_t size, int value)
{
    unsigned char bytes[CHUNK];
    while (size) {
        size_t part = size < CHUNK ? size : CHUNK;
        if (!careful_copy((uintptr_t)bytes, from, part)) return true; /* the copy itself will tell */
        for (size_t i = 0; i < part; i++)
            if (bytes[i] != value) return false;
        from += part, size -= part;
    }
    return true;
}

/* New memory holds anything at all; some bytes of it here are surely not zero. */
static void scribble(int fd, char *at, size_t size)
{
    unsigned char page[PAGE];
    memset(page, NEW_BYTE, sizeof page);
    for (size_t offset = 0; offset < size; offset += GRANULARITY) {
        size_t part = size - offset < PAGE ? size - offset : PAGE;
        if (at) memcpy(at + offset, page, part);
        else if (pwrite(fd, page, part, (off_t)offset) < 0) return;
    }
}

/* What the CPU may do with every page of a range: 1 read, 2 write. -1 where a part of it is not mapped. */
static int page_rights(uint64_t at, size_t size)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    uint64_t end = at + size;
    int rights = 3;
    while (maps && at < end && fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        char read, write;
        if (sscanf(line, "%lx-%lx %c%c", &from, &to, &read, &write) != 4 || to <= at) continue;
        if (from > at) break;
        rights &= (read == 'r' ? 1 : 0) | (write == 'w' ? 2 : 0);
        at = to;
    }
    if (maps) fclose(maps);
    return at < end ? -1 : rights;
}

static struct pinned *pinned_at(uint64_t at)
{
    struct pinned *it = pins;
    while (it && !within(at, 1, it->base, it->size)) it = it->next;
    return it;
}

static struct reservation *reservation_meeting(uint64_t at, size_t size)
{
    struct reservation *it = reservations;
    while (it && !meets(at, size, it->base, it->size)) it = it->next;
    return it;
}

enum pinning { PAGEABLE, PARTLY, PINNED };

static enum pinning pinning(uint64_t at, size_t size, bool *read_only)
{
    uint64_t reached = at;
    struct pinned *part;
    *read_only = false;
    while (reached < at + size && (part = pinned_at(reached))) {
        *read_only |= part->read_only;
        reached = part->base + part->size;
    }
    if (reached >= at + size) return PINNED;
    for (part = pins; part; part = part->next)
        if (meets(at, size, part->base, part->size)) return PARTLY;
    return PAGEABLE;
}

static CUresult check_host(uint64_t at, size_t size, bool write)
{
    bool read_only;
    if (reservation_meeting(at, size))
        return INVALID("0x%lx is a device address, a host address is wanted", at);
    switch (pinning(at, size, &read_only)) {
    case PARTLY:
        return INVALID("only a part of the host range 0x%lx+%zu is pinned", at, size);
    case PINNED:
        if (write && read_only) return INVALID("writes to host memory that is registered as read-only");
        return CUDA_SUCCESS;
    case PAGEABLE: break;
    }
    int rights = page_rights(at, size);
    if (rights < 0) return INVALID("the host range 0x%lx+%zu is not mapped", at, size);
    if (!(rights & (write ? 2 : 1)))
        return INVALID("the host range 0x%lx+%zu may not be %s", at, size, write ? "written" : "read");
    return CUDA_SUCCESS;
}

/* ---- Device memory ------------------------------------------------------------------------------------- */

static bool no_device(int device) { return device < 0 || device >= device_count; }

static int attribute(int name, int device)
{
    for (size_t i = 0; i < ATTRIBUTES; i++)
        if (attributes[i].name == name)
            return attribute_values[i] + (name == CU_DEVICE_ATTRIBUTE_PCI_BUS_ID ? device : 0);
    return -1;
}

static struct memory *memory_of(CUmemGenericAllocationHandle id)
{
    struct handle *it = handles;
    while (it && it->id != id) it = it->next;
    return it ? it->memory : NULL;
}

static struct mapping *mapping_at(CUdeviceptr at)
{
    struct mapping *it = mappings;
    while (it && !within(at, 1, it->base, it->size)) it = it->next;
    return it;
}

static CUresult check_device(CUdeviceptr at, size_t size, int need, int device)
{
    struct reservation *range = reservation_meeting(at, 1);
    if (!range) return INVALID("0x%llx is not a device address", at);
    if (!within(at, size, range->base, range->size))
        return INVALID("0x%llx+%zu runs past its reservation", at, size);
    for (CUdeviceptr reached = at; reached < at + size;) {
        struct mapping *part = mapping_at(reached);
        if (!part) return INVALID("device address 0x%llx is not mapped", reached);
        if (!part->access[device]) return INVALID("device %d has no access to 0x%llx", device, reached);
        if (part->access[device] < need) return INVALID("device %d may only read 0x%llx", device, reached);
        reached = part->base + part->size;
    }
    return CUDA_SUCCESS;
}

static size_t used(int device)
{
    size_t sum = 0;
    for (struct memory *it = memories; it; it = it->next)
        if (!it->imported && it->device == device) sum += it->size;
    return sum;
}

static size_t unused(int device)
{
    size_t taken = used(device);
    return total < taken || total - taken < others ? 0 : total - taken - others;
}

/* Whether this process still has a descriptor of the memory open, besides the library's own. */
static bool open_elsewhere(const struct memory *memory)
{
    DIR *all = opendir("/proc/self/fd");
    struct dirent *one;
    bool found = false;
    while (all && !found && (one = readdir(all))) {
        struct stat about;
        int fd = atoi(one->d_name);
        found = one->d_name[0] != '.' && fd != memory->fd && fd != dirfd(all) && !fstat(fd, &about) &&
                about.st_ino == memory->inode && about.st_dev == memory->volume;
    }
    if (all) closedir(all);
    return found;
}

/* Gives back all memory that nothing refers to any more. */
static void reap(void)
{
    for (struct memory *it = memories, *next; it; it = next) {
        next = it->next;
        if (it->handles || it->mappings || (it->shared && open_elsewhere(it))) continue;
        UNLINK(memories, it);
        close(it->fd);
        free(it);
    }
}

static CUmemGenericAllocationHandle new_handle(struct memory *memory)
{
    struct handle *handle = make(sizeof *handle);
    handle->id = ++last_id;
    handle->memory = memory;
    memory->handles++;
    PUSH(handles, handle);
    return handle->id;
}

/* ---- Queued work --------------------------------------------------------------------------------------- */

static const char *move(const struct op *op)
{
    void *to = (void *)op->write, *from = (void *)op->read;
    switch (op->kind) {
    case HOST_TO_DEVICE:
        if (!careful_copy(op->write, op->read, op->size))
            return "its host memory cannot be read when the copy runs";
        if (!op->guarded || mix(0, to, op->size) == op->sum) return NULL;
        return "its host memory was changed before the copy was done";
    case DEVICE_TO_HOST:
        if (op->guarded && !host_is_all(op->write, op->size, UNWRITTEN_BYTE))
            return "its host memory was written by others before the copy was done";
        if (careful_copy(op->write, op->read, op->size)) return NULL;
        return "its host memory cannot be written when the copy runs";
    case DEVICE_TO_DEVICE: memmove(to, from, op->size); return NULL;
    case FILL: memset(to, op->value, op->size); return NULL;
    case RECORD: return NULL;
    }
    return NULL;
}

/* Does the work, one piece at a time: two that wrongly meet do no more harm than a wrong order. Says what was
 * wrong, or null. Works with and without the lock: the ranges stay as long as the work is queued. */
static const char *perform(const struct op *op)
{
    pthread_mutex_lock(&moving);
    const char *complaint = move(op);
    pthread_mutex_unlock(&moving);
    return complaint;
}

static struct event *event_of(unsigned long long id)
{
    struct event *it = events;
    while (it && it->id != id) it = it->next;
    return it;
}

static void complete(unsigned long long id, unsigned long long ticket)
{
    struct event *event = event_of(id);
    if (!event || event->done >= ticket) return;
    event->done = ticket;
    event->at = milliseconds();
}

/* A stream's thread. Ends when the stream is destroyed and its queue is empty. */
static void *work(void *argument)
{
    struct stream *stream = argument;
    pthread_mutex_lock(&lock);
    for (;;) {
        bool may_start = !held || draining || sticky;
        struct op *op = stream->head;
        if (!op && stream->closing) break;
        if (!op || !may_start) {
            pthread_cond_wait(&changed, &lock);
            continue;
        }
        if (!sticky) { /* after a sticky error the device does nothing more */
            struct timespec pause = {0, 1000L * random_below(pause_limit + 1)};
            pthread_mutex_unlock(&lock);
            nanosleep(&pause, NULL);
            const char *complaint = perform(op);
            pthread_mutex_lock(&lock);
            calling = op->call;
            if (complaint) violation("%s", complaint);
        }
        if (op->kind == RECORD) complete(op->event, op->ticket);
        stream->head = op->next;
        if (!stream->head) stream->tail = &stream->head;
        free(op);
        pthread_cond_broadcast(&changed);
    }
    UNLINK(streams, stream);
    free(stream);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static bool busy(uint64_t at, size_t size)
{
    for (struct stream *stream = streams; stream; stream = stream->next)
        for (struct op *op = stream->head; op; op = op->next)
            if (meets(at, size, op->write, op->size) || meets(at, size, op->read, op->size)) return true;
    return false;
}

/* Reports memory that is taken away from queued work, and waits for that work so that nothing worse
 * happens. */
static void settle(uint64_t at, size_t size)
{
    if (!busy(at, size)) return;
    violation("queued work still uses 0x%lx+%zu", at, size);
    draining++;
    pthread_cond_broadcast(&changed);
    while (busy(at, size)) pthread_cond_wait(&changed, &lock);
    draining--;
}

/* A stream of the caller, by its handle. Null for the null stream, which needs no search. */
static CUresult stream_of(CUstream handle, struct stream **found)
{
    *found = NULL;
    if (!handle || handle == CU_STREAM_LEGACY) return CUDA_SUCCESS;
    if (handle == CU_STREAM_PER_THREAD) return CUDA_ERROR_NOT_SUPPORTED; /* right use, but not built here */
    for (struct stream *it = streams; it; it = it->next)
        if (it->id == (uintptr_t)handle && !it->closing) *found = it;
    if (!*found) return wrong(CUDA_ERROR_INVALID_HANDLE, "%p is not a live stream", (void *)handle);
    return CUDA_SUCCESS;
}

/* Streams with work left: of a device (all its streams, or those that block the null stream), or one by
 * its number. */
static bool unfinished(int device, bool all, unsigned long long id)
{
    for (struct stream *it = streams; it; it = it->next)
        if (it->head && (id ? it->id == id : it->device == device && (all || it->blocking))) return true;
    return false;
}

static CUresult wait_for(int device, bool all, unsigned long long id)
{
    while (unfinished(device, all, id)) pthread_cond_wait(&changed, &lock);
    return sticky;
}

static void queue(struct stream *stream, const struct op *want)
{
    struct op *op = make(sizeof *op);
    *op = *want;
    op->next = NULL;
    *stream->tail = op;
    stream->tail = &op->next;
    pthread_cond_broadcast(&changed);
}

/* Two pieces of work in different streams have no order: they must not meet where one of them writes. */
static void check_order(const struct op *op, const struct stream *own)
{
    for (struct stream *stream = streams; stream; stream = stream->next)
        for (struct op *other = stream == own ? NULL : stream->head; other; other = other->next)
            if (meets(op->write, op->size, other->write, other->size) ||
                meets(op->write, op->size, other->read, other->size) ||
                meets(op->read, op->size, other->write, other->size)) {
                violation("not ordered after %s, queued on the same memory in another stream", other->call);
                return;
            }
}

/* Watches the host side of a queued copy, where no other queued work may rightly change it. */
static void guard(struct op *op)
{
    if (op->kind == HOST_TO_DEVICE) {
        bool written = false;
        for (struct stream *stream = streams; stream; stream = stream->next)
            for (struct op *other = stream->head; other; other = other->next)
                written |= meets(op->read, op->size, other->write, other->size);
        op->guarded = !written && host_sum(op->read, op->size, &op->sum);
    } else if (op->kind == DEVICE_TO_HOST) {
        op->guarded = !busy(op->write, op->size) && host_fill(op->write, op->size, UNWRITTEN_BYTE);
    }
}

static CUresult check_ranges(const struct op *op, int device)
{
    int sides[2] = {current(), device}; /* in reach of the current context, and of the stream's */
    if (op->write + op->size < op->write || op->read + op->size < op->read)
        return INVALID("a range wraps around");
    CUresult result = CUDA_SUCCESS;
    if (op->kind == HOST_TO_DEVICE) result = check_host(op->read, op->size, false);
    if (op->kind == DEVICE_TO_HOST) result = check_host(op->write, op->size, true);
    for (int i = 0; !result && i < (sides[0] == sides[1] ? 1 : 2); i++) {
        if (op->kind != DEVICE_TO_HOST) result = check_device(op->write, op->size, 3, sides[i]);
        if (!result && (op->kind == DEVICE_TO_HOST || op->kind == DEVICE_TO_DEVICE))
            result = check_device(op->read, op->size, 1, sides[i]);
    }
    if (!result && op->kind == DEVICE_TO_DEVICE && meets(op->write, op->size, op->read, op->size))
        result = INVALID("the source and the destination overlap");
    return result;
}

/*
 * Hands over a copy or a fill. It is done at once, after all work before it, on the null stream (and so for
 * the calls without a stream) and where the host memory is pageable.
 */
static CUresult submit(struct op op, CUstream handle, bool async)
{
    struct stream *stream;
    bool read_only;
    uint64_t host = op.kind == HOST_TO_DEVICE ? op.read : op.kind == DEVICE_TO_HOST ? op.write : 0;
    CUresult result = stream_of(handle, &stream);
    if (result || !op.size) return result;
    op.call = calling;
    bool slow = host && pinning(host, op.size, &read_only) == PAGEABLE;
    int device = stream ? stream->device : current();
    if ((result = check_ranges(&op, device))) return result;
    if (slow && async) pageable++;
    if (stream && !slow) {
        check_order(&op, stream);
        guard(&op);
        queue(stream, &op);
        return CUDA_SUCCESS;
    }
    if ((result = wait_for(device, false, stream ? stream->id : 0))) return result;
    if ((result = check_ranges(&op, device))) return result; /* another thread may have unmapped meanwhile */
    check_order(&op, NULL);
    const char *complaint = perform(&op);
    return complaint ? INVALID("%s", complaint) : CUDA_SUCCESS;
}

/* ---- Start, devices, contexts, errors ------------------------------------------------------------------ */

CUresult CUDAAPI cuInit(unsigned int flags)
{
    CALL(NOTHING);
    if (flags) return INVALID("flags must be 0");
    if (!device_count) return CUDA_ERROR_NO_DEVICE;
    if (!initialised) owner = getpid();
    initialised = true;
    return owner == getpid() ? CUDA_SUCCESS : wrong(CUDA_ERROR_NOT_INITIALIZED, "called in a fork");
}

CUresult CUDAAPI cuDriverGetVersion(int *version)
{
    CALL(NOTHING);
    NO_RESULT(version);
    *version = 13000;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGetCount(int *count)
{
    CALL(INIT);
    NO_RESULT(count);
    *count = device_count;
    return CUDA_SUCCESS;
}

/* An ordinal may come from the outside and may be asked for; any other call gets a device that exists. */
CUresult CUDAAPI cuDeviceGet(CUdevice *device, int ordinal)
{
    CALL(INIT);
    NO_RESULT(device);
    if (no_device(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

#define DEVICE(device)                                                                                      \
    if (no_device(device)) return wrong(CUDA_ERROR_INVALID_DEVICE, "there is no device %d", device)

CUresult CUDAAPI cuDeviceGetName(char *name, int length, CUdevice device)
{
    CALL(INIT);
    DEVICE(device);
    if (!name || length <= 0) return INVALID("no room for the name");
    snprintf(name, (size_t)length, "Hoist Stand-in %d", device);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGetUuid(CUuuid *uuid, CUdevice device)
{
    CALL(INIT);
    DEVICE(device);
    NO_RESULT(uuid);
    for (int i = 0; i < 16; i++) uuid->bytes[i] = (char)(0xF0 + i); /* negative, where a char has a sign */
    uuid->bytes[0] = (char)device;
    return CUDA_SUCCESS;
}

/* An attribute that this version does not know is no wrong use: a caller may know more than its driver. */
CUresult CUDAAPI cuDeviceGetAttribute(int *value, CUdevice_attribute name, CUdevice device)
{
    CALL(INIT);
    DEVICE(device);
    NO_RESULT(value);
    for (size_t i = 0; i < ATTRIBUTES; i++) {
        if (attributes[i].name != (int)name) continue;
        *value = attribute((int)name, device);
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult CUDAAPI cuDeviceTotalMem(size_t *bytes, CUdevice device)
{
    CALL(INIT);
    DEVICE(device);
    NO_RESULT(bytes);
    *bytes = total;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGetPCIBusId(char *id, int length, CUdevice device)
{
    CALL(INIT);
    DEVICE(device);
    if (!id || length < 13) return INVALID("room for 13 characters is wanted");
    int domain = attribute(CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID, device);
    int bus = attribute(CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, device);
    int slot = attribute(CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, device);
    snprintf(id, (size_t)length, "%04X:%02X:%02X.0", (unsigned)domain, (unsigned)bus, (unsigned)slot);
    return CUDA_SUCCESS;
}

static CUcontext context_of(int device) { return (CUcontext)(uintptr_t)(0xC0DE00 + 16 * device); }

CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    CALL(INIT);
    DEVICE(device);
    NO_RESULT(context);
    references[device]++;
    *context = context_of(device);
    return CUDA_SUCCESS;
}

static void leaked(size_t count, const char *what)
{
    if (count) violation("%zu %s left when the context ended", count, what);
}

/* What is left when a context ends. Handles, mappings and reservations have no context: told when the last
 * one ends. */
static void report_leaks(int device)
{
    unsigned left = 0;
    for (int i = 0; i < MAX_DEVICES; i++) left += references[i];
    leaked(COUNT(struct stream, streams, it->device == device && !it->closing), "streams are");
    leaked(COUNT(struct event, events, it->device == device), "events are");
    leaked(COUNT(struct pinned, pins, it->device == device && !it->registered), "host allocations are");
    leaked(COUNT(struct pinned, pins, it->device == device && it->registered), "host registrations are");
    if (left) return;
    reap();
    leaked(COUNT(struct handle, handles, true), "memory handles are");
    leaked(COUNT(struct mapping, mappings, true), "mappings are");
    leaked(COUNT(struct reservation, reservations, true), "address reservations are");
    leaked(COUNT(struct memory, memories, !it->handles && !it->mappings), "open exported descriptors are");
}

static void free_pinned(struct pinned *pin)
{
    if (!pin->registered) munmap((void *)pin->base, pin->size);
    UNLINK(pins, pin);
    free(pin);
}

/* Ends the streams, events and pinned memory of a device; of all devices for -1. */
static void end_context(int device)
{
    for (struct stream *it = streams; it; it = it->next)
        if (device < 0 || it->device == device) it->closing = true;
    draining++;
    pthread_cond_broadcast(&changed);
    while (COUNT(struct stream, streams, device < 0 || it->device == device))
        pthread_cond_wait(&changed, &lock);
    draining--;
    for (struct event *it = events, *next; it; it = next) {
        next = it->next;
        if (device >= 0 && it->device != device) continue;
        UNLINK(events, it);
        free(it);
    }
    for (struct pinned *it = pins, *next; it; it = next) {
        next = it->next;
        if (device < 0 || it->device == device) free_pinned(it);
    }
}

CUresult CUDAAPI cuDevicePrimaryCtxRelease(CUdevice device)
{
    CALL(INIT);
    DEVICE(device);
    if (!references[device]) return wrong(CUDA_ERROR_INVALID_CONTEXT, "the primary context is not retained");
    if (--references[device]) return CUDA_SUCCESS;
    if (!sticky) report_leaks(device); /* after a sticky error nothing can be given back by calls */
    end_context(device);
    sticky = CUDA_SUCCESS;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxSetCurrent(CUcontext context)
{
    CALL(INIT);
    int device = -1;
    for (int i = 0; i < device_count; i++)
        if (context == context_of(i)) device = i;
    if (context && (device < 0 || !references[device]))
        return wrong(CUDA_ERROR_INVALID_CONTEXT, "%p is not a retained context", (void *)context);
    current_device = device;
    current_generation = generation;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxGetCurrent(CUcontext *context)
{
    CALL(INIT);
    NO_RESULT(context);
    *context = current() < 0 ? NULL : context_of(current());
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxSynchronize(void)
{
    CALL(CONTEXT);
    return wait_for(current(), true, 0);
}

#define ERROR(code) {code, #code}
static const struct { CUresult code; const char *name; } errors[] = {
    ERROR(CUDA_SUCCESS), ERROR(CUDA_ERROR_INVALID_VALUE), ERROR(CUDA_ERROR_OUT_OF_MEMORY),
    ERROR(CUDA_ERROR_NOT_INITIALIZED), ERROR(CUDA_ERROR_DEINITIALIZED), ERROR(CUDA_ERROR_STUB_LIBRARY),
    ERROR(CUDA_ERROR_DEVICE_UNAVAILABLE), ERROR(CUDA_ERROR_NO_DEVICE), ERROR(CUDA_ERROR_INVALID_DEVICE),
    ERROR(CUDA_ERROR_INVALID_CONTEXT), ERROR(CUDA_ERROR_MAP_FAILED), ERROR(CUDA_ERROR_UNMAP_FAILED),
    ERROR(CUDA_ERROR_ALREADY_MAPPED), ERROR(CUDA_ERROR_NOT_MAPPED), ERROR(CUDA_ERROR_ECC_UNCORRECTABLE),
    ERROR(CUDA_ERROR_NVLINK_UNCORRECTABLE), ERROR(CUDA_ERROR_OPERATING_SYSTEM),
    ERROR(CUDA_ERROR_INVALID_HANDLE), ERROR(CUDA_ERROR_ILLEGAL_STATE), ERROR(CUDA_ERROR_NOT_FOUND),
    ERROR(CUDA_ERROR_NOT_READY), ERROR(CUDA_ERROR_ILLEGAL_ADDRESS), ERROR(CUDA_ERROR_LAUNCH_TIMEOUT),
    ERROR(CUDA_ERROR_CONTEXT_IS_DESTROYED), ERROR(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED),
    ERROR(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED), ERROR(CUDA_ERROR_HARDWARE_STACK_ERROR),
    ERROR(CUDA_ERROR_ILLEGAL_INSTRUCTION), ERROR(CUDA_ERROR_MISALIGNED_ADDRESS),
    ERROR(CUDA_ERROR_LAUNCH_FAILED), ERROR(CUDA_ERROR_NOT_PERMITTED), ERROR(CUDA_ERROR_NOT_SUPPORTED),
    ERROR(CUDA_ERROR_SYSTEM_NOT_READY), ERROR(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH),
    ERROR(CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE), ERROR(CUDA_ERROR_TIMEOUT), ERROR(CUDA_ERROR_UNKNOWN),
};

static CUresult error_name(CUresult error, const char **name)
{
    NO_RESULT(name);
    *name = NULL;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == error) *name = errors[i].name;
    return *name ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* These two may be called before cuInit: they tell what cuInit answered. The text here is the name again. */
CUresult CUDAAPI cuGetErrorName(CUresult error, const char **name)
{
    CALL(NOTHING);
    return error_name(error, name);
}

CUresult CUDAAPI cuGetErrorString(CUresult error, const char **text)
{
    CALL(NOTHING);
    return error_name(error, text);
}

/* ---- Device memory: handles, addresses, mappings ------------------------------------------------------- */

CUresult CUDAAPI cuMemGetInfo(size_t *unused_bytes, size_t *total_bytes)
{
    CALL(CONTEXT);
    NO_RESULT(unused_bytes);
    NO_RESULT(total_bytes);
    reap();
    *unused_bytes = unused(current());
    *total_bytes = total;
    return CUDA_SUCCESS;
}

static CUresult check_properties(const CUmemAllocationProp *p)
{
    static const unsigned char zero[4];
    if (!p) return INVALID("the properties are null");
    if (p->type != CU_MEM_ALLOCATION_TYPE_PINNED)
        return INVALID("allocation type %d is not the pinned one", (int)p->type);
    if (p->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
        return INVALID("location type %d is not a device", (int)p->location.type);
    DEVICE(p->location.id);
    if (p->requestedHandleTypes & ~(unsigned)CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return INVALID("handle types 0x%x are not for this system", (unsigned)p->requestedHandleTypes);
    if (p->win32HandleMetaData || p->allocFlags.compressionType || p->allocFlags.gpuDirectRDMACapable ||
        p->allocFlags.usage || memcmp(p->allocFlags.reserved, zero, sizeof zero))
        return INVALID("an unused property is not zero");
    bool possible = attribute(CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, 0) == 1;
    return p->requestedHandleTypes && !possible ? CUDA_ERROR_NOT_SUPPORTED : CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemGetAllocationGranularity(size_t *granularity, const CUmemAllocationProp *properties,
                                               CUmemAllocationGranularity_flags option)
{
    CALL(VMM);
    NO_RESULT(granularity);
    CUresult result = check_properties(properties);
    if (result) return result;
    if (option != CU_MEM_ALLOC_GRANULARITY_MINIMUM && option != CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)
        return INVALID("there is no option %d", (int)option);
    *granularity = GRANULARITY;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size,
                             const CUmemAllocationProp *properties, unsigned long long flags)
{
    CALL(VMM);
    NO_RESULT(handle);
    CUresult result = check_properties(properties);
    if (result) return result;
    if (!size || size % GRANULARITY) return INVALID("size %zu is not a multiple of the granularity", size);
    if (flags) return INVALID("flags must be 0");
    reap();
    if (size > unused(properties->location.id)) return CUDA_ERROR_OUT_OF_MEMORY;
    char name[64];
    snprintf(name, sizeof name, MEMORY_NAME "%d", properties->location.id);
    int fd = memfd_create(name, MFD_CLOEXEC);
    struct stat about;
    if (fd < 0 || ftruncate(fd, (off_t)size) || fstat(fd, &about)) {
        if (fd >= 0) close(fd);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    scribble(fd, NULL, size);
    struct memory *memory = make(sizeof *memory);
    memory->fd = fd, memory->size = size;
    memory->volume = about.st_dev, memory->inode = about.st_ino;
    memory->device = properties->location.id;
    memory->exportable = properties->requestedHandleTypes == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    PUSH(memories, memory);
    *handle = new_handle(memory);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemRelease(CUmemGenericAllocationHandle id)
{
    CALL(VMM);
    struct handle *handle = handles;
    while (handle && handle->id != id) handle = handle->next;
    if (!handle) return INVALID("0x%llx is not a live memory handle", id);
    handle->memory->handles--;
    UNLINK(handles, handle);
    free(handle);
    reap();
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemAddressReserve(CUdeviceptr *address, size_t size, size_t alignment, CUdeviceptr hint,
                                     unsigned long long flags)
{
    CALL(VMM);
    NO_RESULT(address);
    if (!size || size % GRANULARITY) return INVALID("size %zu is not a multiple of the granularity", size);
    if (alignment & (alignment - 1)) return INVALID("alignment %zu is not a power of two", alignment);
    if (hint % PAGE) return INVALID("the hint is not a multiple of the page size");
    if (flags) return INVALID("flags must be 0");
    size_t step = alignment > GRANULARITY ? alignment : GRANULARITY;
    if (size + step < size) return CUDA_ERROR_OUT_OF_MEMORY;
    char *space = mmap((void *)hint, size + step, PROT_NONE, RESERVED, -1, 0);
    if (space == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    size_t before = (step - (uintptr_t)space % step) % step;
    if (before) munmap(space, before);
    if (step - before) munmap(space + before + size, step - before);
    struct reservation *range = make(sizeof *range);
    range->base = (CUdeviceptr)(uintptr_t)(space + before);
    range->size = size;
    PUSH(reservations, range);
    *address = range->base;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemAddressFree(CUdeviceptr address, size_t size)
{
    CALL(VMM);
    struct reservation *range = reservation_meeting(address, 1);
    if (!range) return INVALID("0x%llx is not reserved", address);
    if (range->base != address || range->size != size)
        return INVALID("0x%llx+%zu is not the whole of a reservation", address, size);
    for (struct mapping *it = mappings; it; it = it->next)
        if (meets(address, size, it->base, it->size))
            return INVALID("memory is still mapped at 0x%llx", it->base);
    munmap((void *)range->base, range->size);
    UNLINK(reservations, range);
    free(range);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemMap(CUdeviceptr address, size_t size, size_t offset,
                          CUmemGenericAllocationHandle handle, unsigned long long flags)
{
    CALL(VMM);
    struct memory *memory = memory_of(handle);
    struct reservation *range = reservation_meeting(address, 1);
    if (!memory) return INVALID("0x%llx is not a live memory handle", handle);
    if (!size || address % GRANULARITY || size % GRANULARITY)
        return INVALID("0x%llx+%zu is not a multiple of the granularity", address, size);
    if (offset) return INVALID("offset must be 0");
    if (flags) return INVALID("flags must be 0");
    if (size > memory->size) return INVALID("maps %zu bytes of memory that has %zu", size, memory->size);
    if (!range || !within(address, size, range->base, range->size))
        return INVALID("0x%llx+%zu is not inside one reservation", address, size);
    for (struct mapping *it = mappings; it; it = it->next)
        if (meets(address, size, it->base, it->size))
            return INVALID("memory is already mapped at 0x%llx", it->base);
    if (mmap((void *)address, size, PROT_NONE, MAP_SHARED | MAP_FIXED, memory->fd, 0) == MAP_FAILED)
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct mapping *mapping = make(sizeof *mapping);
    mapping->base = address, mapping->size = size, mapping->memory = memory;
    memory->mappings++;
    PUSH(mappings, mapping);
    return CUDA_SUCCESS;
}

static struct mapping *exact_mapping(CUdeviceptr address, size_t size)
{
    struct mapping *mapping = mapping_at(address);
    return mapping && mapping->base == address && mapping->size == size ? mapping : NULL;
}

CUresult CUDAAPI cuMemUnmap(CUdeviceptr address, size_t size)
{
    CALL(VMM);
    if (exact_mapping(address, size)) settle(address, size);
    struct mapping *mapping = exact_mapping(address, size);
    if (!mapping) return INVALID("0x%llx+%zu is not exactly one mapping", address, size);
    mmap((void *)address, size, PROT_NONE, RESERVED | MAP_FIXED, -1, 0);
    mapping->memory->mappings--;
    UNLINK(mappings, mapping);
    free(mapping);
    reap();
    return CUDA_SUCCESS;
}

static CUresult check_access(const CUmemAccessDesc *access, size_t count)
{
    if (!access || !count) return INVALID("no access is described");
    for (size_t i = 0; i < count; i++) {
        if (access[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE)
            return INVALID("location type %d is not a device", (int)access[i].location.type);
        DEVICE(access[i].location.id);
        if ((unsigned)access[i].flags > 3 || access[i].flags == 2)
            return INVALID("there is no access 0x%x", (unsigned)access[i].flags);
        for (size_t j = 0; j < i; j++)
            if (access[j].location.id == access[i].location.id)
                return INVALID("device %d is described twice", access[i].location.id);
    }
    return CUDA_SUCCESS;
}

/* Whether a range consists of whole mappings, without a gap. */
static bool wholly_mapped(CUdeviceptr address, size_t size)
{
    CUdeviceptr reached = address;
    while (reached < address + size) {
        struct mapping *part = mapping_at(reached);
        if (!part || part->base != reached) return false;
        reached += part->size;
    }
    return size && reached == address + size;
}

static void set_access(struct mapping *mapping, const CUmemAccessDesc *access, size_t count)
{
    int best = 0;
    for (size_t i = 0; i < count; i++) mapping->access[access[i].location.id] = (int)access[i].flags;
    for (int i = 0; i < MAX_DEVICES; i++) best |= mapping->access[i];
    mprotect((void *)mapping->base, mapping->size, (best & 1 ? PROT_READ : 0) | (best & 2 ? PROT_WRITE : 0));
}

CUresult CUDAAPI cuMemSetAccess(CUdeviceptr address, size_t size, const CUmemAccessDesc *access, size_t count)
{
    CALL(VMM);
    bool lowers = false;
    CUresult result = check_access(access, count);
    if (result) return result;
    for (struct mapping *it = mappings; it; it = it->next)
        for (size_t i = 0; i < count && meets(address, size, it->base, it->size); i++)
            lowers |= (int)access[i].flags < it->access[access[i].location.id];
    if (lowers && wholly_mapped(address, size)) settle(address, size);
    if (!wholly_mapped(address, size))
        return INVALID("0x%llx+%zu is not made of whole mappings", address, size);
    for (struct mapping *it = mappings; it; it = it->next)
        if (within(it->base, it->size, address, size)) set_access(it, access, count);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemExportToShareableHandle(void *shareable, CUmemGenericAllocationHandle handle,
                                              CUmemAllocationHandleType type, unsigned long long flags)
{
    CALL(VMM);
    NO_RESULT(shareable);
    struct memory *memory = memory_of(handle);
    if (!memory) return INVALID("0x%llx is not a live memory handle", handle);
    if (flags) return INVALID("flags must be 0");
    if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return INVALID("handle type %d is not for this system", (int)type);
    if (!memory->exportable) return INVALID("the memory was not created with this handle type");
    int fd = fcntl(memory->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return CUDA_ERROR_OPERATING_SYSTEM;
    memory->shared = true;
    *(int *)shareable = fd;
    return CUDA_SUCCESS;
}

/* The device that a descriptor's memory lies on, or -1 where the descriptor is not of such memory. */
static int device_behind(int fd)
{
    char path[64], name[128];
    int device;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(path, name, sizeof name - 1);
    if (length < 0) return -1;
    name[length] = 0;
    return sscanf(name, "/memfd:" MEMORY_NAME "%d", &device) == 1 ? device : -1;
}

CUresult CUDAAPI cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *shareable,
                                                CUmemAllocationHandleType type)
{
    CALL(VMM);
    NO_RESULT(handle);
    struct stat about;
    int fd = (int)(uintptr_t)shareable;
    if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return INVALID("handle type %d is not for this system", (int)type);
    int device = device_behind(fd);
    if (device < 0 || fstat(fd, &about)) return INVALID("%d is not the descriptor of exported memory", fd);
    if (no_device(device)) return CUDA_ERROR_NOT_SUPPORTED; /* a device that this process lacks */
    struct memory *memory = memories;
    while (memory && (memory->inode != about.st_ino || memory->volume != about.st_dev)) memory = memory->next;
    if (!memory) {
        int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (own < 0) return CUDA_ERROR_OPERATING_SYSTEM;
        memory = make(sizeof *memory);
        memory->fd = own, memory->size = (size_t)about.st_size;
        memory->volume = about.st_dev, memory->inode = about.st_ino;
        memory->device = device;
        memory->imported = memory->exportable = true;
        PUSH(memories, memory);
    }
    memory->shared = true;
    *handle = new_handle(memory);
    return CUDA_SUCCESS;
}

/* ---- Host memory: allocations and registrations -------------------------------------------------------- */

static void new_pinned(uint64_t base, size_t size, bool registered, bool read_only)
{
    struct pinned *pin = make(sizeof *pin);
    pin->base = base, pin->size = size, pin->device = current();
    pin->registered = registered, pin->read_only = read_only;
    PUSH(pins, pin);
}

CUresult CUDAAPI cuMemHostAlloc(void **address, size_t size, unsigned int flags)
{
    CALL(CONTEXT);
    NO_RESULT(address);
    if (!size) return INVALID("size is 0");
    if (flags & ~7u) return INVALID("there are no flags 0x%x", flags & ~7u);
    if (size + PAGE < size) return CUDA_ERROR_OUT_OF_MEMORY;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    scribble(-1, memory, size);
    new_pinned((uintptr_t)memory, size, false, false);
    *address = memory;
    return CUDA_SUCCESS;
}

/* The pinned memory that starts exactly here, if it is of the wanted sort. */
static struct pinned *pinned_from(const void *address, bool registered)
{
    struct pinned *pin = pinned_at((uintptr_t)address);
    return pin && pin->base == (uintptr_t)address && pin->registered == registered ? pin : NULL;
}

CUresult CUDAAPI cuMemFreeHost(void *address)
{
    CALL(CONTEXT);
    struct pinned *pin = pinned_from(address, false);
    if (pin) settle(pin->base, pin->size);
    pin = pinned_from(address, false);
    if (!pin) return INVALID("%p is not the start of a host allocation", address);
    free_pinned(pin);
    return CUDA_SUCCESS;
}

/* Pages are what is locked: two registrations that share a page overlap. */
static bool pages_pinned(uint64_t at, size_t size)
{
    uint64_t from = at & ~(PAGE - 1), to = (at + size + PAGE - 1) & ~(PAGE - 1);
    for (struct pinned *it = pins; it; it = it->next) {
        uint64_t base = it->base & ~(PAGE - 1), end = (it->base + it->size + PAGE - 1) & ~(PAGE - 1);
        if (meets(from, to - from, base, end - base)) return true;
    }
    return false;
}

CUresult CUDAAPI cuMemHostRegister(void *address, size_t size, unsigned int flags)
{
    CALL(CONTEXT);
    uint64_t at = (uintptr_t)address;
    bool read_only = flags & CU_MEMHOSTREGISTER_READ_ONLY;
    if (!address || !size || at + size < at) return INVALID("the range is empty or wraps around");
    if (flags & ~15u) return INVALID("there are no flags 0x%x", flags & ~15u);
    if (reservation_meeting(at, size)) return INVALID("%p is a device address", address);
    if (attribute(CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 0) != 1) return CUDA_ERROR_NOT_SUPPORTED;
    if (flags & CU_MEMHOSTREGISTER_IOMEMORY) return CUDA_ERROR_NOT_SUPPORTED;
    if (read_only && attribute(CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED, 0) != 1)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (pages_pinned(at, size)) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    int rights = page_rights(at, size);
    if (rights < 0 || !(rights & 1)) return INVALID("%p+%zu is not mapped and readable", address, size);
    if (!(rights & 2) && !read_only)
        return INVALID("%p+%zu is mapped read-only, the flag for that is missing", address, size);
    new_pinned(at, size, true, read_only);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemHostUnregister(void *address)
{
    CALL(CONTEXT);
    struct pinned *pin = pinned_from(address, true);
    if (pin) settle(pin->base, pin->size);
    pin = pinned_from(address, true);
    if (!pin) {
        pin = pinned_at((uintptr_t)address);
        if (pin && pin->registered) return INVALID("%p is inside a registration, not its start", address);
        return wrong(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "%p is not registered", address);
    }
    if (page_rights(pin->base, pin->size) < 0) violation("%p was unmapped while it was registered", address);
    free_pinned(pin);
    return CUDA_SUCCESS;
}

/* ---- Copies -------------------------------------------------------------------------------------------- */

CUresult CUDAAPI cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t size, CUstream stream)
{
    CALL(CONTEXT);
    struct op op = {.kind = HOST_TO_DEVICE, .write = to, .read = (uintptr_t)from, .size = size};
    return submit(op, stream, true);
}

CUresult CUDAAPI cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t size, CUstream stream)
{
    CALL(CONTEXT);
    struct op op = {.kind = DEVICE_TO_HOST, .write = (uintptr_t)to, .read = from, .size = size};
    return submit(op, stream, true);
}

CUresult CUDAAPI cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t size)
{
    CALL(CONTEXT);
    struct op op = {.kind = HOST_TO_DEVICE, .write = to, .read = (uintptr_t)from, .size = size};
    return submit(op, NULL, false);
}

CUresult CUDAAPI cuMemcpyDtoH(void *to, CUdeviceptr from, size_t size)
{
    CALL(CONTEXT);
    struct op op = {.kind = DEVICE_TO_HOST, .write = (uintptr_t)to, .read = from, .size = size};
    return submit(op, NULL, false);
}

CUresult CUDAAPI cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream)
{
    CALL(CONTEXT);
    struct op op = {.kind = DEVICE_TO_DEVICE, .write = to, .read = from, .size = size};
    return submit(op, stream, true);
}

CUresult CUDAAPI cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t size, CUstream stream)
{
    CALL(CONTEXT);
    struct op op = {.kind = FILL, .write = to, .value = value, .size = size};
    return submit(op, stream, true);
}

/* ---- Streams and events -------------------------------------------------------------------------------- */

CUresult CUDAAPI cuStreamCreate(CUstream *handle, unsigned int flags)
{
    CALL(CONTEXT);
    NO_RESULT(handle);
    if (flags & ~(unsigned)CU_STREAM_NON_BLOCKING) return INVALID("there are no flags 0x%x", flags);
    struct stream *stream = make(sizeof *stream);
    stream->id = ++last_id;
    stream->device = current();
    stream->blocking = !(flags & CU_STREAM_NON_BLOCKING);
    stream->tail = &stream->head;
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, stream)) {
        free(stream);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    pthread_detach(thread);
    PUSH(streams, stream);
    *handle = (CUstream)(uintptr_t)stream->id;
    return CUDA_SUCCESS;
}

/* Returns at once: the stream's thread finishes what is queued. */
CUresult CUDAAPI cuStreamDestroy(CUstream handle)
{
    CALL(CONTEXT);
    struct stream *stream;
    CUresult result = stream_of(handle, &stream);
    if (result) return result;
    if (!stream) return wrong(CUDA_ERROR_INVALID_HANDLE, "the null stream cannot be destroyed");
    stream->closing = true;
    pthread_cond_broadcast(&changed);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamSynchronize(CUstream handle)
{
    CALL(CONTEXT);
    struct stream *stream;
    CUresult result = stream_of(handle, &stream);
    return result ? result : wait_for(current(), false, stream ? stream->id : 0);
}

CUresult CUDAAPI cuStreamQuery(CUstream handle)
{
    CALL(CONTEXT);
    struct stream *stream;
    CUresult result = stream_of(handle, &stream);
    if (result) return result;
    return unfinished(current(), false, stream ? stream->id : 0) ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventCreate(CUevent *handle, unsigned int flags)
{
    CALL(CONTEXT);
    NO_RESULT(handle);
    if (flags & ~7u) return INVALID("there are no flags 0x%x", flags & ~7u);
    if ((flags & CU_EVENT_INTERPROCESS) && !(flags & CU_EVENT_DISABLE_TIMING))
        return INVALID("an event for other processes must not keep times");
    struct event *event = make(sizeof *event);
    event->id = ++last_id;
    event->device = current();
    event->flags = flags;
    PUSH(events, event);
    *handle = (CUevent)(uintptr_t)event->id;
    return CUDA_SUCCESS;
}

#define EVENT(found, handle)                                                                                \
    struct event *found = event_of((uintptr_t)(handle));                                                    \
    if (!found) return wrong(CUDA_ERROR_INVALID_HANDLE, "%p is not a live event", (void *)(handle))

CUresult CUDAAPI cuEventRecord(CUevent handle, CUstream on)
{
    CALL(CONTEXT);
    EVENT(event, handle);
    struct stream *stream;
    CUresult result = stream_of(on, &stream);
    if (result) return result;
    if (event->device != (stream ? stream->device : current()))
        return wrong(CUDA_ERROR_INVALID_HANDLE, "the event and the stream are of different contexts");
    struct op op = {.kind = RECORD, .call = calling, .event = event->id, .ticket = ++last_ticket};
    event->wanted = op.ticket;
    if (stream) {
        queue(stream, &op);
        return CUDA_SUCCESS;
    }
    if ((result = wait_for(current(), false, 0))) return result;
    complete(op.event, op.ticket);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventSynchronize(CUevent handle)
{
    CALL(CONTEXT);
    EVENT(event, handle);
    unsigned long long ticket = event->wanted;
    while ((event = event_of((uintptr_t)handle)) && event->done < ticket) pthread_cond_wait(&changed, &lock);
    return sticky;
}

/* The only one of the event calls whose documentation does not ask for a context. */
CUresult CUDAAPI cuEventQuery(CUevent handle)
{
    CALL(INIT | STICKY);
    EVENT(event, handle);
    return event->done < event->wanted ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

/* May come before the event is complete. */
CUresult CUDAAPI cuEventDestroy(CUevent handle)
{
    CALL(CONTEXT);
    EVENT(event, handle);
    UNLINK(events, event);
    free(event);
    pthread_cond_broadcast(&changed);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventElapsedTime(float *time, CUevent first, CUevent second)
{
    CALL(CONTEXT);
    NO_RESULT(time);
    EVENT(start, first);
    EVENT(end, second);
    if ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING)
        return wrong(CUDA_ERROR_INVALID_HANDLE, "an event keeps no times");
    if (!start->wanted || !end->wanted)
        return wrong(CUDA_ERROR_INVALID_HANDLE, "an event was never recorded");
    if (start->done < start->wanted || end->done < end->wanted) return CUDA_ERROR_NOT_READY;
    *time = (float)(end->at - start->at);
    return CUDA_SUCCESS;
}

/* ---- What tests ask of the stand-in itself ------------------------------------------------------------- */

static unsigned long long setting(const char *name, unsigned long long otherwise)
{
    const char *value = getenv(name);
    return value && *value ? strtoull(value, NULL, 0) : otherwise;
}

/* A call's record for a test. A name that does not exist is a mistake in the test, and is told as loudly. */
static struct entry *asked_entry(const char *control, const char *name)
{
    struct entry *entry = name ? entry_of(name) : NULL;
    calling = control;
    if (!entry) violation("there is no call %s", name ? name : "(null)");
    return entry;
}

static void ask_failure(const char *call, int code, unsigned after)
{
    struct entry *entry = asked_entry("hoist_standin_fail", call);
    for (size_t i = 0; entry && i < sizeof entry->fail / sizeof *entry->fail; i++) {
        if (!code) entry->fail[i].after = 0;
        if (!code || entry->fail[i].after) continue;
        entry->fail[i].after = after ? after : 1;
        entry->fail[i].code = code;
        return;
    }
}

/* HOIST_STANDIN_FAIL: call:code:after, several of them separated by commas. */
static void ask_failures(const char *text)
{
    char call[64];
    int code, length;
    unsigned after;
    while (text && sscanf(text, "%63[^:,]:%d:%u%n", call, &code, &after, &length) == 3) {
        ask_failure(call, code, after);
        text = text[length] == ',' ? text + length + 1 : NULL;
    }
}

static void set_devices(long long count)
{
    device_count = count < 0 ? 0 : count > MAX_DEVICES ? MAX_DEVICES : (int)count;
}

static void defaults(void)
{
    const char *on_violation = getenv("HOIST_STANDIN_VIOLATIONS");
    unsigned long long count = setting("HOIST_STANDIN_DEVICES", 1);
    abort_on_violation = on_violation && !strcmp(on_violation, "abort");
    set_devices((long long)count);
    total = setting("HOIST_STANDIN_TOTAL", 1ULL << 30);
    others = setting("HOIST_STANDIN_USE", 0);
    pause_limit = (unsigned)setting("HOIST_STANDIN_PAUSE_US", 200) % 1000000;
    random_state = setting("HOIST_STANDIN_SEED", 1) * 2 + 1; /* never 0, which the generator would keep */
    for (size_t i = 0; i < ATTRIBUTES; i++) attribute_values[i] = attributes[i].value;
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        entries[i] = (struct entry){.name = entries[i].name};
    ask_failures(getenv("HOIST_STANDIN_FAIL"));
}

/* The library stays loaded whatever the test unloads: its threads may still be ending. */
__attribute__((constructor)) static void load(void)
{
    Dl_info self;
    if (dladdr((void *)load, &self)) dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
    pthread_atfork(before_fork, after_fork, after_fork);
    defaults();
}

/* A fresh state, as after loading. No other thread may be in a call. */
void hoist_standin_reset(void)
{
    LOCKED;
    held = false;
    end_context(-1);
    for (struct mapping *it; (it = mappings); free(it)) mappings = it->next, it->memory->mappings--;
    for (struct handle *it; (it = handles); free(it)) handles = it->next, it->memory->handles--;
    for (struct reservation *it; (it = reservations); free(it)) {
        reservations = it->next;
        munmap((void *)it->base, it->size);
    }
    for (struct memory *it; (it = memories); free(it)) memories = it->next, close(it->fd);
    memset(references, 0, sizeof references);
    initialised = false;
    sticky = CUDA_SUCCESS;
    violations = pageable = contextless = 0;
    last_violation[0] = 0;
    generation++;
    defaults();
    pthread_cond_broadcast(&changed);
}

void hoist_standin_set_total(unsigned long long bytes) { LOCKED; total = bytes; }
void hoist_standin_set_devices(int count) { LOCKED; set_devices(count); }
void hoist_standin_use(unsigned long long bytes) { LOCKED; others = bytes; }
void hoist_standin_fail(const char *call, int code, unsigned after)
{
    LOCKED;
    ask_failure(call, code, after);
}

/* Makes every device answer an attribute so; what hangs on the attribute is then refused. */
void hoist_standin_attribute(int name, int value)
{
    LOCKED;
    for (size_t i = 0; i < ATTRIBUTES; i++)
        if (attributes[i].name == name) attribute_values[i] = value;
}

void hoist_standin_poison(int code)
{
    LOCKED;
    sticky = (CUresult)code;
    pthread_cond_broadcast(&changed);
}

void hoist_standin_hang(const char *call, int on)
{
    LOCKED;
    struct entry *entry = asked_entry("hoist_standin_hang", call);
    if (entry) entry->hung = on;
    pthread_cond_broadcast(&changed);
}

/* While on, no queued work starts: a device that stands still. Calls that wait for work then wait. */
void hoist_standin_hold(int on)
{
    LOCKED;
    held = on;
    pthread_cond_broadcast(&changed);
}

unsigned long hoist_standin_calls(const char *call)
{
    LOCKED;
    struct entry *entry = asked_entry("hoist_standin_calls", call);
    return entry ? entry->calls : 0;
}

/* The newest violation's line, "" before the first. Stays valid until the next one. */
const char *hoist_standin_last_violation(void) { LOCKED; return last_violation; }

#define COUNTER(name, value) unsigned long hoist_standin_##name(void) { LOCKED; return (value); }
COUNTER(violations, violations)
COUNTER(pageable_async_copies, pageable)
COUNTER(contextless_calls, contextless)
COUNTER(allocations, (reap(), COUNT(struct memory, memories, true)))
COUNTER(handles, COUNT(struct handle, handles, true))
COUNTER(reservations, COUNT(struct reservation, reservations, true))
COUNTER(mappings, COUNT(struct mapping, mappings, true))
COUNTER(streams, COUNT(struct stream, streams, !it->closing))
COUNTER(events, COUNT(struct event, events, true))
COUNTER(host_allocations, COUNT(struct pinned, pins, !it->registered))
COUNTER(registrations, COUNT(struct pinned, pins, it->registered))

unsigned long hoist_standin_context_references(void)
{
    LOCKED;
    unsigned long sum = 0;
    for (int i = 0; i < MAX_DEVICES; i++) sum += references[i];
    return sum;
}
