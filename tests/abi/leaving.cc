// Callbacks that do not return normally, which the contract forbids. An exception ends the process and goes no
// further; a longjmp leaves what the call had in use behind, and nothing else.
#include <registry_transport.h>

#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what)                                                                     \
    do {                                                                                \
        if (!(what)) {                                                                  \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);             \
            std::exit(1);                                                               \
        }                                                                               \
    } while (0)

static std::jmp_buf back;

extern "C" {

static std::int64_t throwing(void *, void *, std::size_t)
{
    throw std::runtime_error("not through C");
}

static std::int64_t jumping(void *, void *, std::size_t)
{
    std::longjmp(back, 1);
}

}

static rt_transport *make(const char *registry)
{
    rt_transport *t = nullptr;
    const std::string name = std::string(registry) + "/a/b";

    CHECK(rt_transport_new(name.c_str(), RT_PULL, nullptr, nullptr, &t, nullptr) == RT_OK);
    return t;
}

static void post(const rt_transport *t, rt_read_fn read)
{
    rt_source *source = rt_source_reader(read, nullptr, 3, nullptr, nullptr);
    rt_req *r = rt_req_new("POST", "/v2/echo");
    rt_response *answer = nullptr;

    CHECK(rt_req_source(r, source) == RT_OK);
    rt_request(t, r, nullptr, &answer, nullptr);
    CHECK(false);
}

static void get(const rt_transport *t)
{
    rt_req *r = rt_req_new("GET", "/v2/hello");
    rt_response *answer = nullptr;

    CHECK(rt_request(t, r, nullptr, &answer, nullptr) == RT_OK);
    rt_free(answer);
    rt_free(r);
}

// What becomes of a child that runs this.
template <typename F> static int child(F f)
{
    const pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        f();
        _exit(0);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return status;
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    const char *registry = argv[1];

    const int thrown = child([registry] {
        // The terminate handler of C++ or the abort of Rust would print.
        CHECK(std::freopen("/dev/null", "w", stderr) != nullptr);
        try {
            post(make(registry), throwing);
        } catch (...) {
            _exit(3);
        }
    });
    CHECK(WIFSIGNALED(thrown) && WTERMSIG(thrown) == SIGABRT);

    const int jumped = child([registry] {
        rt_transport *t = make(registry);
        if (setjmp(back) == 0)
            post(t, jumping);
        rt_transport *other = make(registry);
        get(other);
        rt_free(other);
        rt_free(t);
    });
    CHECK(WIFEXITED(jumped) && WEXITSTATUS(jumped) == 0);

    rt_transport *t = make(registry);
    get(t);
    rt_free(t);
    std::puts("ok");
    return 0;
}
