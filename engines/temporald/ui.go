package main

import (
	"fmt"
	"net"
	"strconv"

	"github.com/temporalio/ui-server/v2/server"
	"github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/server_options"
)

// ui is the web page.
type ui struct {
	*server.Server
	addr string
}

// startUI serves the web page, which asks nobody outside for news or versions. Its server listens by
// itself and ends the process where it cannot, and so it is tried here first.
func startUI(addr, front, namespace string) (*ui, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("--ui-addr: %w", err)
	}
	at := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, fmt.Errorf("--ui-addr: %w", err)
	}
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		return nil, fmt.Errorf("--ui-addr: %w", err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("--ui-addr: %w", err)
	}
	s := server.NewServer(server_options.WithConfigProvider(&config.Config{
		TemporalGRPCAddress: front, Host: host, Port: n, EnableUI: true, DefaultNamespace: namespace, HideLogs: true,
		DisableNewsFetch: true, CORS: config.CORS{CookieInsecure: true},
	}))
	go func() { _ = s.Start() }() // Stop ends it
	return &ui{Server: s, addr: at}, nil
}
