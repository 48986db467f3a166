/* A callback of the C API that throws, which it must not: the program ends there, and nothing runs on in a state that
 * nobody knows. REGISTRY */
#include <registry_transport.h>

#include "check.h"

#include <stdexcept>
#include <string>

static std::int32_t throws(void *, const void *, std::size_t)
{
    throw std::runtime_error("through");
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    rt_transport *t = nullptr;
    rt_response *r = nullptr;
    rt_creds *creds = rt_creds_basic("demo", "demo");
    rt_req *hello = rt_req_new("GET", "/v2/hello");
    CHECK(rt_transport_new((std::string(argv[1]) + "/a/b").c_str(), RT_PULL, creds, nullptr, &t, nullptr) == RT_OK);
    CHECK(rt_request(t, hello, nullptr, &r, nullptr) == RT_OK);
    std::puts("calling");
    std::fflush(stdout);
    try {
        rt_response_drain(r, throws, nullptr, nullptr);
    } catch (...) {
        std::puts("caught");
    }
    std::puts("still here");
    return 0;
}
