#include <registry_transport.h>
#include <stdio.h>

int main(void)
{
    if (rt_abi() != RT_ABI) {
        fprintf(stderr, "this is ABI %u, not %d\n", (unsigned)rt_abi(), RT_ABI);
        return 1;
    }
    printf("%s\n", rt_version());
    printf("SOCKS proxies: %s\n", rt_has_feature("socks") ? "yes" : "no");
    return 0;
}
