//go:build !oldest

package main

import (
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
)

func newExecutor(to *url.URL) (remotecommand.Executor, error) {
	if *transport == "spdy" {
		return spdyExecutor(to)
	}
	if *protocols == "" {
		return remotecommand.NewWebSocketExecutor(config(), http.MethodGet, to.String())
	}
	return remotecommand.NewWebSocketExecutorForProtocols(config(), http.MethodGet, to.String(), strings.Split(*protocols, ",")...)
}

func newDialer(to *url.URL) (httpstream.Dialer, error) {
	if *transport == "websocket" {
		return portforward.NewSPDYOverWebsocketDialer(to, config())
	}
	tripper, upgrader, err := spdy.RoundTripperFor(config())
	if err != nil {
		return nil, err
	}
	return spdy.NewDialer(upgrader, &http.Client{Transport: tripper}, http.MethodPost, to), nil
}
