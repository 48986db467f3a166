/* pull.c in C++: an image into a folder, as an OCI image layout. The blobs come by several threads that share one
 * transport; the first failure cancels the calls of the others and is thrown to main.
 *
 *   pull-cc REFERENCE DIRECTORY      with $REGISTRY_USER, $REGISTRY_PASSWORD and $REGISTRY_CA, if they are set
 */
#include <registry_transport.hpp>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

extern "C" {
#include "json.h"
#include "layout.h"
#include "platform.h"
}

namespace rt = registry_transport;

struct Freed {
    void operator()(char *text) const { std::free(text); }
    void operator()(json *value) const { json_free(value); }
};

struct Manifest {
    rt::response answer; // lends its bytes and its digest
    std::string_view bytes;
    std::unique_ptr<json, Freed> tree;

    Manifest(const rt::transport &t, std::string_view target) : answer(t.manifest_get(target)), bytes(answer.body())
    {
        tree.reset(json_parse(bytes.data(), bytes.size()));
        if (tree == nullptr)
            throw std::runtime_error("the manifest is not JSON");
    }
};

/* The C helpers tell on standard error what is wrong. */
static void must(bool well)
{
    if (!well)
        throw std::runtime_error("the image cannot be pulled");
}

static Manifest resolve(const rt::transport &t, std::string_view target)
{
    Manifest m(t, target);
    if (json_get(m.tree.get(), "manifests") == nullptr)
        return m;
    platform here;
    descriptor image;
    platform_here(&here);
    const json *entry = platform_select(m.tree.get(), &here);
    must(entry != nullptr && descriptor_read(entry, &image) == 0);
    return Manifest(t, image.digest);
}

static std::string blob_path(const std::string &directory, std::string_view digest)
{
    std::unique_ptr<char, Freed> path(layout_blob(directory.c_str(), std::string(digest).c_str()));
    must(path != nullptr && layout_make_parent(path.get()) == 0);
    return path.get();
}

static void fetch(const rt::transport &t, const std::vector<std::string> &digests, const std::string &directory)
{
    std::vector<rt::op> ops(digests.size()); // one for each call, made before a thread begins
    std::atomic<std::size_t> next{0};
    std::mutex lock; // guards standard output and failure
    std::exception_ptr failure;

    const auto work = [&] {
        try {
            for (std::size_t i; (i = next++) < digests.size();) {
                t.blob_save(digests[i], blob_path(directory, digests[i]), &ops[i]);
                const std::lock_guard<std::mutex> guard(lock);
                std::cout << digests[i] << "  " << ops[i].progress().done << '\n';
            }
        } catch (...) {
            const std::lock_guard<std::mutex> guard(lock);
            if (failure == nullptr)
                failure = std::current_exception(); // the others follow from it
            for (const rt::op &op : ops)
                op.cancel();
        }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; i++)
        threads.emplace_back(work);
    for (std::thread &thread : threads)
        thread.join();
    if (failure != nullptr)
        std::rethrow_exception(failure);
}

static void pull(const char *reference, const std::string &directory)
{
    const char *user = std::getenv("REGISTRY_USER"), *password = std::getenv("REGISTRY_PASSWORD");
    const char *ca = std::getenv("REGISTRY_CA");
    rt::options options;
    if (ca != nullptr) {
        options.set("ca-file", ca);
        options.set("scheme", "https");
    }
    const rt::ref ref = rt::ref::parse(reference);
    const std::string name = std::string(ref.registry()) + '/' + std::string(ref.repository().value_or(""));
    const rt::creds creds = user != nullptr && password != nullptr ? rt::creds::basic(user, password) : rt::creds();
    const rt::transport t = rt::transport::open(name, rt::actions::pull, creds, options);

    const Manifest image = resolve(t, ref.digest() ? *ref.digest() : ref.tag().value_or("latest"));
    std::vector<std::string> digests;
    const auto add = [&](const json *value) {
        descriptor d;
        must(descriptor_read(value, &d) == 0);
        if (std::find(digests.begin(), digests.end(), d.digest) == digests.end()) // the same layer may be there twice
            digests.emplace_back(d.digest);
    };
    add(json_get(image.tree.get(), "config"));
    for (const json *layer = json_first(json_get(image.tree.get(), "layers")); layer != nullptr; layer = json_next(layer))
        add(layer);
    must(layout_create(directory.c_str()) == 0);
    fetch(t, digests, directory);

    const bool docker = image.answer.header("content-type") == RT_MEDIA_TYPE_DOCKER_MANIFEST;
    const std::string digest(image.answer.digest().value_or(""));
    const std::string index = std::string(R"({"schemaVersion":2,"manifests":[{"mediaType":")")
                              + (docker ? RT_MEDIA_TYPE_DOCKER_MANIFEST : RT_MEDIA_TYPE_OCI_MANIFEST)
                              + R"(","digest":")" + digest + R"(","size":)" + std::to_string(image.bytes.size()) + "}]}\n";
    must(file_write(blob_path(directory, digest).c_str(), image.bytes.data(), image.bytes.size()) == 0);
    must(file_write((directory + "/index.json").c_str(), index.data(), index.size()) == 0);
    std::cout << directory << ": " << digest << ", " << digests.size() << " blobs\n";
}

int main(int argc, char **argv)
{
    try {
        if (argc != 3 || !rt::abi_matches())
            throw std::runtime_error("usage: pull-cc REFERENCE DIRECTORY, with the library it was built for");
        pull(argv[1], argv[2]);
        return 0;
    } catch (const rt::error &e) {
        std::cerr << "error: " << e.what() << " (" << rt::to_string(e.code()) << ")\n";
        for (const rt::diagnostic d : e.diagnostics())
            std::cerr << "  registry says: " << d.code << ": " << d.message.value_or("") << '\n';
        if (const auto wait = e.retry_after())
            std::cerr << "  trying again may help, in " << wait->count() << " ms\n";
    } catch (const std::exception &e) {
        std::cerr << "error: " << e.what() << '\n';
    }
    return 1;
}
