//go:build oldest

package main

import (
	"errors"
	"net/http"
	"net/url"

	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
)

var errTransport = errors.New("only spdy in this version")

func newExecutor(to *url.URL) (remotecommand.Executor, error) {
	if *transport != "spdy" {
		return nil, errTransport
	}
	return spdyExecutor(to)
}

func newDialer(to *url.URL) (httpstream.Dialer, error) {
	if *transport != "spdy" {
		return nil, errTransport
	}
	tripper, upgrader, err := spdy.RoundTripperFor(config())
	if err != nil {
		return nil, err
	}
	return spdy.NewDialer(upgrader, &http.Client{Transport: tripper}, http.MethodPost, to), nil
}
