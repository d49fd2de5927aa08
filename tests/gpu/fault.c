/* Provokes an error of the card that stays, in the process that it is loaded into, when SIGUSR2 comes.
 *
 * For tests/gpu alone: it is loaded by LD_PRELOAD, and linked into nothing. Nothing of CUDA is needed to build it: the driver is
 * opened when it is asked for. The kernel runs in the device's primary context, which is the worker's, and stores to address
 * zero; from then on every call in that context is answered with CUDA_ERROR_ILLEGAL_ADDRESS.
 *
 * FAULT_DEVICE is the ordinal of the device; 0 without it. What it does it says on stderr, in lines that begin `fault: `.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const KERNEL =
    ".version %s\n"
    ".target %s\n"
    ".address_size 64\n"
    ".visible .entry fault()\n"
    "{\n"
    "    .reg .u64 %%place;\n"
    "    .reg .u32 %%what;\n"
    "    mov.u64 %%place, 0;\n"
    "    mov.u32 %%what, 1;\n"
    "    st.global.u32 [%%place], %%what;\n"
    "    ret;\n"
    "}\n";

/* A driver compiles each for its card, if that is not older than the target: the newest first, as drivers forget old ones. Each
 * with the oldest version of the language that has it. One that is refused leaves the context as it was. */
static const struct target { const char *version, *name; } TARGETS[] = {
    {"7.8", "sm_90"}, {"7.0", "sm_80"}, {"6.3", "sm_75"}, {"6.0", "sm_60"}, {"6.0", "sm_50"},
};

typedef int (*call)();

static void *driver;

static call find(const char *name)
{
    call found = (call)dlsym(driver, name);
    if (found == NULL)
        fprintf(stderr, "fault: the driver has no %s\n", name);
    return found;
}

/* Nothing else of this file may be run before it has answered. */
static int checked(const char *what, int code)
{
    fprintf(stderr, "fault: %s: %d\n", what, code);
    return code == 0;
}

static void *loaded_kernel(call load)
{
    for (size_t at = 0; at < sizeof TARGETS / sizeof *TARGETS; at++) {
        char text[1024];
        void *module = NULL;
        snprintf(text, sizeof text, KERNEL, TARGETS[at].version, TARGETS[at].name);
        fprintf(stderr, "fault: for %s\n", TARGETS[at].name);
        if (checked("cuModuleLoadData", load(&module, text)))
            return module;
    }
    return NULL;
}

static void provoke(void)
{
    const char *named = getenv("FAULT_DEVICE");
    int ordinal = named == NULL ? 0 : atoi(named), device = 0;
    void *context = NULL, *module, *kernel = NULL;

    driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == NULL) {
        fprintf(stderr, "fault: there is no driver: %s\n", dlerror());
        return;
    }
    call init = find("cuInit"), get = find("cuDeviceGet"), retain = find("cuDevicePrimaryCtxRetain");
    call set = find("cuCtxSetCurrent"), load = find("cuModuleLoadData"), function = find("cuModuleGetFunction");
    call launch = find("cuLaunchKernel"), synchronize = find("cuCtxSynchronize");
    if (!init || !get || !retain || !set || !load || !function || !launch || !synchronize)
        return;
    if (!checked("cuInit", init(0)) || !checked("cuDeviceGet", get(&device, ordinal)))
        return;
    if (!checked("cuDevicePrimaryCtxRetain", retain(&context, device)) || !checked("cuCtxSetCurrent", set(context)))
        return;
    module = loaded_kernel(load);
    if (module == NULL || !checked("cuModuleGetFunction", function(&kernel, module, "fault")))
        return;
    if (!checked("cuLaunchKernel", launch(kernel, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL)))
        return;
    /* 700 is what is wanted. */
    checked("cuCtxSynchronize", synchronize());
}

static void *wait_for_it(void *waited)
{
    int number;
    while (sigwait(waited, &number) == 0)
        provoke();
    return NULL;
}

/* Before the program has a thread: all that it starts inherit that the signal is not theirs. */
__attribute__((constructor)) static void begin(void)
{
    static sigset_t waited;
    pthread_t thread;
    sigemptyset(&waited);
    sigaddset(&waited, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &waited, NULL);
    if (pthread_create(&thread, NULL, wait_for_it, &waited) == 0)
        pthread_detach(thread);
}
