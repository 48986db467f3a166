#define _POSIX_C_SOURCE 200809L
#include "platform.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "common.h"

/* What uname calls a machine, and what an index calls it. */
static const struct {
    const char *machine, *arch, *variant;
} machines[] = {
    {"x86_64", "amd64", ""},     {"amd64", "amd64", ""},      {"aarch64", "arm64", ""},
    {"arm64", "arm64", ""},      {"armv7l", "arm", "v7"},     {"armv6l", "arm", "v6"},
    {"armv5tel", "arm", "v5"},   {"i386", "386", ""},         {"i486", "386", ""},
    {"i586", "386", ""},         {"i686", "386", ""},         {"loongarch64", "loong64", ""},
};

/* Some variants go without saying. */
static const char *variant_of(const char *arch, const char *variant)
{
    if (variant == NULL || *variant == '\0')
        return strcmp(arch, "arm") == 0 ? "v7" : "";
    if ((strcmp(arch, "arm64") == 0 && strcmp(variant, "v8") == 0)
        || (strcmp(arch, "amd64") == 0 && strcmp(variant, "v1") == 0))
        return "";
    return variant;
}

void platform_here(struct platform *out)
{
    struct utsname name;
    const char *arch, *variant = "";

    memset(out, 0, sizeof *out);
    if (uname(&name) != 0)
        return;
    arch = name.machine;
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++)
        if (strcmp(name.machine, machines[i].machine) == 0) {
            arch = machines[i].arch;
            variant = machines[i].variant;
        }
    /* Images are made for Linux, whatever runs them. */
    strcpy(out->os, strcmp(name.sysname, "FreeBSD") == 0 ? "freebsd" : "linux");
    snprintf(out->arch, sizeof out->arch, "%.31s", arch);
    snprintf(out->variant, sizeof out->variant, "%s", variant);
}

int platform_parse(const char *text, struct platform *out)
{
    int end = 0;

    memset(out, 0, sizeof *out);
    if (sscanf(text, "%31[^/]/%31[^/]%n/%31[^/]%n", out->os, out->arch, &end, out->variant, &end) >= 2
        && text[end] == '\0')
        return 0;
    return complain("%s: a platform is written os/arch or os/arch/variant", text);
}

static int fits(const json *platform, const struct platform *want)
{
    const char *os = json_text(json_get(platform, "os"));
    const char *arch = json_text(json_get(platform, "architecture"));
    const char *variant = json_text(json_get(platform, "variant"));

    return os != NULL && arch != NULL && strcmp(os, want->os) == 0 && strcmp(arch, want->arch) == 0
           && strcmp(variant_of(arch, variant), variant_of(arch, want->variant)) == 0;
}

static void tell_platforms(const json *first, const struct platform *want)
{
    char list[512] = "";
    size_t at = 0;

    for (const json *entry = first; entry != NULL; entry = json_next(entry)) {
        const json *platform = json_get(entry, "platform");
        const char *os = json_text(json_get(platform, "os"));
        const char *arch = json_text(json_get(platform, "architecture"));
        const char *variant = json_text(json_get(platform, "variant"));

        if (os == NULL || arch == NULL || strcmp(os, "unknown") == 0)
            continue;
        snprintf(list + at, sizeof list - at, " %s/%s%s%s", os, arch, variant != NULL ? "/" : "",
                 variant != NULL ? variant : "");
        at += strlen(list + at);
    }
    complain("the image is not made for %s/%s%s%s, but for:%s", want->os, want->arch, *want->variant ? "/" : "",
             want->variant, *list ? list : " nothing named");
}

const json *platform_select(const json *index, const struct platform *want)
{
    const json *first = json_first(json_get(index, "manifests"));

    for (const json *entry = first; entry != NULL; entry = json_next(entry))
        if (fits(json_get(entry, "platform"), want))
            return entry;
    tell_platforms(first, want);
    return NULL;
}
