// stream-client connects to a URL of CRI's Exec, Attach or PortForward with Kubernetes' own client
// library, for the tests. Its input, output and exit code are those of the remote command.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
)

type sizes struct{ left []remotecommand.TerminalSize }

// Next hands out one size after the other, then none for ever.
func (s *sizes) Next() *remotecommand.TerminalSize {
	if len(s.left) == 0 {
		select {}
	}
	size := s.left[0]
	s.left = s.left[1:]
	return &size
}

var (
	target    = flag.String("url", "", "where to connect")
	transport = flag.String("transport", "spdy", "spdy or websocket")
	protocols = flag.String("protocols", "", "what to offer, with commas; empty: what the library offers")
	stdin     = flag.Bool("stdin", false, "send standard input")
	stdout    = flag.Bool("stdout", true, "receive standard output")
	stderr    = flag.Bool("stderr", false, "receive standard error")
	tty       = flag.Bool("tty", false, "the remote side is a terminal")
	resize    = flag.String("resize", "", "sizes of the terminal, as 80x24,100x30")
	ports     = flag.String("ports", "", "forward ports, as 0:80,0:443, until standard input ends")
)

func config() *rest.Config {
	return &rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

func command(to *url.URL) error {
	executor, err := newExecutor(to)
	if err != nil {
		return err
	}
	options := remotecommand.StreamOptions{Tty: *tty}
	if *stdin {
		options.Stdin = os.Stdin
	}
	if *stdout {
		options.Stdout = os.Stdout
	}
	if *stderr {
		options.Stderr = os.Stderr
	}
	if *resize != "" {
		queue := &sizes{}
		for _, text := range strings.Split(*resize, ",") {
			var size remotecommand.TerminalSize
			if _, err := fmt.Sscanf(text, "%dx%d", &size.Width, &size.Height); err != nil {
				return err
			}
			queue.left = append(queue.left, size)
		}
		options.TerminalSizeQueue = queue
	}
	return executor.Stream(options)
}

func spdyExecutor(to *url.URL) (remotecommand.Executor, error) {
	if *protocols == "" {
		return remotecommand.NewSPDYExecutor(config(), http.MethodPost, to)
	}
	tripper, upgrader, err := spdy.RoundTripperFor(config())
	if err != nil {
		return nil, err
	}
	return remotecommand.NewSPDYExecutorForProtocols(tripper, upgrader, http.MethodPost, to, strings.Split(*protocols, ",")...)
}

func forward(to *url.URL) error {
	dialer, err := newDialer(to)
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	forwarder, err := portforward.New(dialer, strings.Split(*ports, ","), stop, make(chan struct{}), os.Stdout, os.Stderr)
	if err != nil {
		return err
	}
	return forwarder.ForwardPorts()
}

func run() int {
	flag.Parse()
	to, err := url.Parse(*target)
	if err == nil {
		if *ports != "" {
			err = forward(to)
		} else {
			err = command(to)
		}
	}
	var exit exec.CodeExitError
	if errors.As(err, &exit) {
		return exit.Code
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stream-client:", err)
		return 125
	}
	return 0
}

func main() { os.Exit(run()) }
