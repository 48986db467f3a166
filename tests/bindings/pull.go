// Go with cgo: the header gives the types, the library is loaded when the program runs.
//
//	CGO_CFLAGS=-I../../include go run pull.go LIBRARY NAME TAG BLOB STALLING FILE
//
// A program that links the library (#cgo pkg-config: registry_transport) needs neither the flags nor dlopen. Errors
// come with the call, so goroutines may move between threads. What is lent by a handle is copied while it lives.
package main

/*
#cgo LDFLAGS: -ldl -Wl,--unresolved-symbols=ignore-all
#include <dlfcn.h>
#include <registry_transport.h>
#include <stdlib.h>
*/
import "C"

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"
)

type Diagnostic struct{ Code, Message string }

type Error struct {
	Kind, Message string
	HTTPStatus    int
	Diagnostics   []Diagnostic
}

func (e *Error) Error() string { return e.Kind + ": " + e.Message }

// check turns what a call returned into a Go error, and frees it.
func check(status C.rt_status, err *C.rt_error) error {
	if status == C.RT_OK {
		return nil
	}
	defer C.rt_free(unsafe.Pointer(err))
	e := &Error{C.GoString(C.rt_status_name(status)), C.GoString(C.rt_error_message(err)), int(C.rt_error_http_status(err)), nil}
	for i := C.size_t(0); i < C.rt_error_diag_count(err); i++ {
		e.Diagnostics = append(e.Diagnostics,
			Diagnostic{C.GoString(C.rt_error_diag_code(err, i)), C.GoString(C.rt_error_diag_message(err, i))})
	}
	return e
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func manifestGet(t *C.rt_transport, tag string) (response *C.rt_response, err error) {
	var failure *C.rt_error
	text := C.CString(tag)
	defer C.free(unsafe.Pointer(text))
	status := C.rt_manifest_get(t, text, nil, &response, &failure)
	return response, check(status, failure)
}

func main() {
	var text []*C.char // the arguments, for C
	for _, argument := range append(os.Args[1:], os.Getenv("REGISTRY_USER"), os.Getenv("REGISTRY_PASSWORD"),
		os.Getenv("REGISTRY_CA"), "ca-file", "scheme", "https", "content-type") {
		text = append(text, C.CString(argument))
	}
	if C.dlopen(text[0], C.RTLD_LAZY|C.RTLD_GLOBAL) == nil {
		must(fmt.Errorf("%s", C.GoString(C.dlerror())))
	}
	if C.rt_abi() != C.RT_ABI {
		must(fmt.Errorf("another version of the library"))
	}
	fmt.Println(C.GoString(C.rt_version()))

	var failure *C.rt_error
	var transport *C.rt_transport
	creds, options := C.rt_creds_basic(text[6], text[7]), C.rt_options_new()
	must(check(C.rt_options_set_str(options, text[9], text[8]), nil))
	must(check(C.rt_options_set_str(options, text[10], text[11]), nil))
	must(check(C.rt_transport_new(text[1], C.RT_PULL, creds, options, &transport, &failure), failure))
	C.rt_free(unsafe.Pointer(creds))
	C.rt_free(unsafe.Pointer(options))
	defer C.rt_free(unsafe.Pointer(transport))

	manifest, err := manifestGet(transport, os.Args[3])
	must(err)
	var data unsafe.Pointer
	var length C.size_t
	must(check(C.rt_response_body(manifest, &data, &length, &failure), failure))
	fmt.Println("manifest", C.GoString(C.rt_response_digest(manifest)), C.GoString(C.rt_response_header(manifest, text[12])))
	fmt.Println(string(C.GoBytes(data, C.int(length))))
	C.rt_free(unsafe.Pointer(manifest))

	list, names := C.rt_list_tags(transport), []string{"tags"}
	for {
		var name *C.char
		must(check(C.rt_list_next(list, nil, &name, &failure), failure))
		if name == nil {
			break
		}
		names = append(names, C.GoString(name))
	}
	fmt.Println(strings.Join(names, " "))
	C.rt_free(unsafe.Pointer(list))

	file, err := os.Create(os.Args[6])
	must(err)
	var blob *C.rt_response
	must(check(C.rt_blob_get(transport, text[3], nil, &blob, &failure), failure))
	buffer, size := make([]byte, 65536), 0
	for {
		must(check(C.rt_response_read(blob, unsafe.Pointer(&buffer[0]), 65536, &length, &failure), failure))
		if length == 0 {
			break
		}
		n, err := file.Write(buffer[:length])
		must(err)
		size += n
	}
	file.Close()
	fmt.Println("blob", C.GoString(C.rt_response_digest(blob)), size)
	C.rt_free(unsafe.Pointer(blob))

	_, err = manifestGet(transport, "no-such-tag")
	e := err.(*Error)
	fmt.Println("error", e.Kind, e.HTTPStatus, e.Diagnostics[0].Code, e.Diagnostics[0].Message)

	op, ended := C.rt_op_new(), make(chan error)
	go func() {
		var failure *C.rt_error
		ended <- check(C.rt_blob_save(transport, text[4], text[5], op, &failure), failure)
	}()
	for done := C.int64_t(0); done == 0; C.rt_op_progress(op, &done, nil) {
		time.Sleep(10 * time.Millisecond)
	}
	C.rt_op_cancel(op)
	fmt.Println("cancelled", (<-ended).(*Error).Kind)
	C.rt_free(unsafe.Pointer(op))
}
