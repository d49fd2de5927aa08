/*
 * A strict stand-in for the driver's management library (libnvidia-ml.so.1), of a machine with one card.
 *
 * Tests load it in place of the real library on a machine without a GPU. It has what Hoist's workers call, by
 * way of the crate nvml-wrapper: the card by its uuid, the field that tells what the driver wants done with it,
 * events of critical errors, and the memory of processes. It answers as documented and checks its callers. A
 * use that the documentation forbids is a violation: one line on stderr, counted, and the end of the process
 * where HOIST_STANDIN_VIOLATIONS=abort. An answer that right use can meet is only answered.
 *
 * How the card is comes from a file, which is read at each call: a test changes the file and with it the card
 * of a process that runs. README.md lists the words.
 *
 * The declarations are written down here from the documented binary interface, for 64-bit Linux. None of these
 * structures has a version number.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- The interface ------------------------------------------------------------------------------------- */

#define IS_LAID_OUT(type, bytes, field, at)                                                                 \
    _Static_assert(sizeof(type) == (bytes) && offsetof(type, field) == (at), "not as documented: " #type)

typedef enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_UNINITIALIZED = 1,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_DRIVER_NOT_LOADED = 9,
    NVML_ERROR_TIMEOUT = 10,
    NVML_ERROR_GPU_IS_LOST = 15,
    NVML_ERROR_UNKNOWN = 999,
} nvmlReturn_t;

typedef struct nvmlDevice_st *nvmlDevice_t;
typedef struct nvmlEventSet_st *nvmlEventSet_t;

#define NVML_FI_DEV_GET_GPU_RECOVERY_ACTION 230u
#define NVML_VALUE_TYPE_UNSIGNED_INT 1u
typedef struct {
    unsigned fieldId, scopeId;
    long long timestamp, latencyUsec; /* microseconds */
    unsigned valueType;
    nvmlReturn_t nvmlReturn;
    union { double dVal; unsigned uiVal; unsigned long long ullVal; } value;
} nvmlFieldValue_t;
IS_LAID_OUT(nvmlFieldValue_t, 40, value, 32);

#define EVENT_XID 0x8ULL /* a critical error */
#define EVENT_ALL 0xFF9FULL
typedef struct {
    nvmlDevice_t device;
    unsigned long long eventType, eventData;
    unsigned gpuInstanceId, computeInstanceId;
} nvmlEventData_t;
IS_LAID_OUT(nvmlEventData_t, 32, gpuInstanceId, 24);

#define NOT_AVAILABLE (~0ULL)   /* bytes that the driver does not tell */
#define NO_INSTANCE 0xFFFFFFFFu /* of a card that is not divided */
typedef struct {
    unsigned pid;
    unsigned long long usedGpuMemory; /* bytes */
    unsigned gpuInstanceId, computeInstanceId;
} nvmlProcessInfo_t;
IS_LAID_OUT(nvmlProcessInfo_t, 24, gpuInstanceId, 16);

/* ---- State --------------------------------------------------------------------------------------------- */

/* What driver.c gives its device 0. */
#define UUID "GPU-00f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff"
/* A number and not an address, so that a caller who looks behind a handle is noticed. */
#define CARD ((nvmlDevice_t)(uintptr_t)0xCA4D)
/* A process that is always there beside the caller's. No process has such a number: it is above the kernel's
 * highest. */
#define OTHER_PROCESS 4194305u
#define OTHER_BYTES (1ULL << 30)
#define MAX_XIDS 64

/* The card, as the file has it. All zeroes: a healthy one. */
struct card {
    bool lost, other_lost, no_actions, old, no_events, no_driver, hidden;
    unsigned action, xid_count;
    unsigned long long xids[MAX_XIDS];
    unsigned long long used; /* bytes of the caller's process; 0: not available */
};

struct event_set {
    struct event_set *next;
    uintptr_t id;   /* never used twice, so a stale handle is always noticed */
    bool listens;   /* the card's errors are recorded for it */
    unsigned heard; /* how many of the file's errors it has had, or had missed when it began */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned references; /* how often it is initialised */
static struct event_set *sets;
static uintptr_t last_id = 0x5E70000;
static char *control; /* the file, where a test has named one */
static unsigned long violations;
static char last_violation[512];
static _Thread_local const char *calling = "none";

__attribute__((format(printf, 1, 2))) static void violation(const char *format, ...)
{
    const char *then = getenv("HOIST_STANDIN_VIOLATIONS");
    va_list arguments;
    int n = snprintf(last_violation, sizeof last_violation, "management stand-in: VIOLATION: %s: ", calling);
    va_start(arguments, format);
    vsnprintf(last_violation + n, sizeof last_violation - (size_t)n, format, arguments);
    va_end(arguments);
    dprintf(STDERR_FILENO, "%s\n", last_violation);
    violations++;
    if (then && !strcmp(then, "abort")) abort();
}
#define INVALID(...) return violation(__VA_ARGS__), NVML_ERROR_INVALID_ARGUMENT

static void unlock(pthread_mutex_t **held) { pthread_mutex_unlock(*held); }
#define LOCKED                                                                                              \
    pthread_mutex_lock(&lock);                                                                              \
    __attribute__((cleanup(unlock), unused)) pthread_mutex_t *held_ = &lock
/* What every call begins with. All but the first also say INITIALISED. */
#define CALL                                                                                                \
    LOCKED;                                                                                                 \
    calling = __func__
#define INITIALISED                                                                                         \
    if (!references) return violation("before nvmlInit_v2"), NVML_ERROR_UNINITIALIZED

/* ---- The file ------------------------------------------------------------------------------------------ */

/* A word that is none is a mistake in the test, and is told as loudly as one in the caller. */
static void take_word(struct card *card, const char *word, unsigned long long number, bool has_number)
{
    const struct { const char *name; bool *is; } flags[] = {
        {"lost", &card->lost},           {"other-lost", &card->other_lost}, {"no-actions", &card->no_actions},
        {"old", &card->old},             {"no-events", &card->no_events},   {"no-driver", &card->no_driver},
        {"hidden", &card->hidden},
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (strcmp(word, flags[i].name)) continue;
        *flags[i].is = true;
        return;
    }
    if (has_number && !strcmp(word, "action")) card->action = (unsigned)number;
    else if (has_number && !strcmp(word, "used")) card->used = number;
    else if (has_number && !strcmp(word, "xid") && card->xid_count < MAX_XIDS)
        card->xids[card->xid_count++] = number;
    else violation("the file says what cannot be: %s", word);
}

static struct card card_now(void)
{
    struct card card = {0};
    const char *path = control ? control : getenv("HOIST_STANDIN_NVML");
    FILE *file = path && *path ? fopen(path, "re") : NULL;
    char line[128], word[32];
    unsigned long long number = 0;
    if (path && *path && !file && errno != ENOENT) violation("%s: %s", path, strerror(errno));
    while (file && fgets(line, sizeof line, file)) {
        int found = sscanf(line, "%31s %llu", word, &number);
        if (found > 0) take_word(&card, word, number, found == 2);
    }
    if (file) fclose(file);
    return card;
}

/* ---- The library --------------------------------------------------------------------------------------- */

nvmlReturn_t nvmlInit_v2(void)
{
    CALL;
    if (card_now().no_driver) return NVML_ERROR_DRIVER_NOT_LOADED;
    references++;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlShutdown(void)
{
    CALL;
    INITIALISED;
    if (--references) return NVML_SUCCESS;
    if (sets) violation("event sets are left");
    for (struct event_set *it; (it = sets); free(it)) sets = it->next;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length)
{
    CALL;
    INITIALISED;
    const char *text = card_now().old ? "535.54.03" : "580.95.05";
    if (!version) INVALID("no room for the version");
    if (length <= strlen(text)) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(version, text);
    return NVML_SUCCESS;
}

/* Documented: it looks at all cards of the machine, and fails when any of them is lost. */
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    CALL;
    INITIALISED;
    struct card card = card_now();
    if (!uuid) INVALID("the uuid is null");
    if (strlen(uuid) != strlen(UUID) || strncmp(uuid, "GPU-", 4)) INVALID("%s is no uuid", uuid);
    if (!device) INVALID("the pointer for the result is null");
    if (card.lost || card.other_lost) return NVML_ERROR_GPU_IS_LOST;
    if (strcmp(uuid, UUID)) return NVML_ERROR_NOT_FOUND;
    *device = CARD;
    return NVML_SUCCESS;
}

#define DEVICE(device)                                                                                      \
    if ((device) != CARD) INVALID("there is no device %p", (void *)(device))

/* Documented: each value has its own result, and the call has none for a card that is lost. A value that is not
 * to be read is one that would be noticed. */
nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
    CALL;
    INITIALISED;
    struct card card = card_now();
    struct timespec now;
    DEVICE(device);
    if (!values || count <= 0) INVALID("no values are asked for");
    clock_gettime(CLOCK_REALTIME, &now);
    for (nvmlFieldValue_t *it = values; it < values + count; it++) {
        if (it->scopeId) INVALID("the field %u has no scope, and %u is asked for", it->fieldId, it->scopeId);
        it->timestamp = (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000;
        it->latencyUsec = 0;
        it->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
        it->value.ullVal = 0xDBDBDBDBDBDBDBDBULL;
        it->nvmlReturn = card.lost                                            ? NVML_ERROR_GPU_IS_LOST
                         : card.old                                           ? NVML_ERROR_INVALID_ARGUMENT
                         : it->fieldId != NVML_FI_DEV_GET_GPU_RECOVERY_ACTION ? NVML_ERROR_NOT_SUPPORTED
                         : card.no_actions                                    ? NVML_ERROR_NOT_SUPPORTED
                                                                              : NVML_SUCCESS;
        if (it->nvmlReturn == NVML_SUCCESS) it->value.uiVal = card.action;
    }
    return NVML_SUCCESS;
}

/* All processes, or how many there are where the place does not suffice. */
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
                                                     nvmlProcessInfo_t *infos)
{
    CALL;
    INITIALISED;
    struct card card = card_now();
    unsigned there = card.hidden ? 1 : 2, room;
    unsigned long long own;
    DEVICE(device);
    if (!count) INVALID("the pointer for the count is null");
    if (*count && !infos) INVALID("room for %u processes at null", *count);
    if (card.lost) return NVML_ERROR_GPU_IS_LOST;
    room = *count;
    *count = there;
    if (room < there) return NVML_ERROR_INSUFFICIENT_SIZE;
    own = card.used ? card.used : NOT_AVAILABLE;
    infos[0] = (nvmlProcessInfo_t){OTHER_PROCESS, OTHER_BYTES, NO_INSTANCE, NO_INSTANCE};
    if (there == 2) infos[1] = (nvmlProcessInfo_t){(unsigned)getpid(), own, NO_INSTANCE, NO_INSTANCE};
    return NVML_SUCCESS;
}

/* ---- Events -------------------------------------------------------------------------------------------- */

static struct event_set *set_of(nvmlEventSet_t handle)
{
    struct event_set *set = sets;
    while (set && set->id != (uintptr_t)handle) set = set->next;
    if (!set) violation("there is no event set %p", (void *)handle);
    return set;
}

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *handle)
{
    CALL;
    INITIALISED;
    struct event_set *set;
    if (!handle) INVALID("the pointer for the result is null");
    set = calloc(1, sizeof *set);
    if (!set) return NVML_ERROR_UNKNOWN;
    *set = (struct event_set){.next = sets, .id = ++last_id};
    sets = set;
    *handle = (nvmlEventSet_t)set->id;
    return NVML_SUCCESS;
}

/* Documented: what happened before is not recorded. */
nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t handle)
{
    CALL;
    INITIALISED;
    struct card card = card_now();
    struct event_set *set;
    DEVICE(device);
    if (types & ~EVENT_ALL) INVALID("there are no events 0x%llx", types & ~EVENT_ALL);
    if (!(set = set_of(handle))) return NVML_ERROR_INVALID_ARGUMENT;
    if (card.lost) return NVML_ERROR_GPU_IS_LOST;
    if (card.no_events || types != EVENT_XID) return NVML_ERROR_NOT_SUPPORTED;
    if (!set->listens) set->heard = card.xid_count;
    set->listens = true;
    return NVML_SUCCESS;
}

/* One event. Documented for Linux: each has its own error's number. */
nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t handle, nvmlEventData_t *data, unsigned timeout_ms)
{
    CALL;
    INITIALISED;
    if (!data) INVALID("the pointer for the result is null");
    for (unsigned waited = 0;; waited++) {
        struct event_set *set = set_of(handle);
        struct card card = card_now();
        if (!set) return NVML_ERROR_INVALID_ARGUMENT;
        if (set->listens && card.lost) return NVML_ERROR_GPU_IS_LOST;
        /* A file with fewer errors than before begins anew. */
        if (set->heard > card.xid_count) set->heard = card.xid_count;
        if (set->listens && set->heard < card.xid_count) {
            *data = (nvmlEventData_t){CARD, EVENT_XID, card.xids[set->heard++], NO_INSTANCE, NO_INSTANCE};
            return NVML_SUCCESS;
        }
        if (waited >= timeout_ms) return NVML_ERROR_TIMEOUT;
        pthread_mutex_unlock(&lock);
        usleep(1000);
        pthread_mutex_lock(&lock);
    }
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t handle)
{
    CALL;
    INITIALISED;
    struct event_set *set = set_of(handle), **at = &sets;
    if (!set) return NVML_ERROR_INVALID_ARGUMENT;
    while (*at != set) at = &(*at)->next;
    *at = set->next;
    free(set);
    return NVML_SUCCESS;
}

/* ---- What tests ask of the stand-in itself ------------------------------------------------------------- */

/* The file that says how the card is, for a test that cannot set its own environment. Null: what the
 * environment says. */
void hoist_standin_nvml_file(const char *path)
{
    CALL;
    free(control);
    control = path ? strdup(path) : NULL;
    if (path && !control) abort();
}

unsigned long hoist_standin_nvml_violations(void) { LOCKED; return violations; }

/* The newest violation's line, "" before the first. Stays valid until the next one. */
const char *hoist_standin_nvml_last_violation(void) { LOCKED; return last_violation; }
