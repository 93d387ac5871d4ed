package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"time"

	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
)

const (
	startLimit = 60 * time.Second
	stopLimit  = 20 * time.Second
)

// clusterName is written into the store at its first start and never changes.
const clusterName = "active"

// serve runs the server until ctx ends.
func serve(ctx context.Context, s settings, out, errs io.Writer) error {
	// Else it asks its makers once a day whether there is something newer.
	if err := os.Setenv("TEMPORAL_VERSION_CHECK_DISABLED", "1"); err != nil {
		return err
	}
	store, err := openStore(ctx, s)
	if err != nil {
		return err
	}
	defer store.release()
	addr, ports, err := choosePorts(s.addr)
	if err != nil {
		return err
	}
	cfg := configuration(store, addr, ports)
	logger := newLogger(errs, s.level)
	server, err := temporal.NewServer(
		temporal.WithConfig(cfg),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(hosts(addr, ports)),
		temporal.WithLogger(logger),
		temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
		temporal.WithDynamicConfigClient(tuning()),
	)
	if err != nil {
		return fmt.Errorf("make the server: %w", err)
	}
	if err := server.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	logger.quietDown(ctx)
	defer stopServer(server.Stop, errs)
	if err := waitReady(ctx, addr, s.namespace); err != nil {
		return err
	}
	line := "temporald ready addr=" + addr
	if s.uiAddr != "" {
		page, err := startUI(s.uiAddr, addr, s.namespace)
		if err != nil {
			return err
		}
		defer page.Stop()
		line += " ui=http://" + page.addr
	}
	if _, err := fmt.Fprintln(out, line); err != nil {
		return fmt.Errorf("say that it is ready: %w", err)
	}
	<-ctx.Done()
	return nil
}

// stopServer bounds what an orderly stop may take; what it has not finished is finished after the next
// start, as after a crash.
func stopServer(stop func() error, errs io.Writer) {
	done := make(chan error, 1)
	go func() { done <- stop() }()
	select {
	case err := <-done:
		if err != nil {
			fmt.Fprintln(errs, "temporald: stop:", err)
		}
	case <-time.After(stopLimit):
		fmt.Fprintln(errs, "temporald: it did not stop in order within", stopLimit)
	}
}

// inner are the parts that only talk to one another.
var inner = []primitives.ServiceName{primitives.HistoryService, primitives.MatchingService, primitives.WorkerService}

// The ports of the inner parts are below those that the kernel gives, by default, to outgoing connections and to whoever
// does not care, since the server listens by itself, by number, and so there is a moment in which somebody else may take
// one; then it says so and ends.
const (
	firstPort = 29_000
	numPorts  = 3_000
	portTries = 100
)

// choosePorts fixes the address and a free port for each inner part.
func choosePorts(addr string) (string, map[primitives.ServiceName]int, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, fmt.Errorf("--addr: %w", err)
	}
	defer l.Close()
	front := l.Addr().(*net.TCPAddr)
	ports := map[primitives.ServiceName]int{primitives.FrontendService: front.Port}
	for _, name := range inner {
		for try := 0; ports[name] == 0; try++ {
			at, err := net.Listen("tcp", net.JoinHostPort(front.IP.String(), strconv.Itoa(firstPort+rand.IntN(numPorts))))
			if err == nil {
				defer at.Close() // until all are chosen, so that each has its own
				ports[name] = at.Addr().(*net.TCPAddr).Port
			} else if try == portTries {
				return "", nil, fmt.Errorf("find a port for the %s: %w", name, err)
			}
		}
	}
	return front.String(), ports, nil
}

func hosts(addr string, ports map[primitives.ServiceName]int) map[primitives.ServiceName]static.Hosts {
	host, _, _ := net.SplitHostPort(addr) // it was made by JoinHostPort
	all := make(map[primitives.ServiceName]static.Hosts, len(ports))
	for name, port := range ports {
		all[name] = static.SingleLocalHost(net.JoinHostPort(host, strconv.Itoa(port)))
	}
	return all
}

func configuration(store *store, addr string, ports map[primitives.ServiceName]int) *config.Config {
	host, _, _ := net.SplitHostPort(addr) // the same
	services := make(map[string]config.Service, len(ports))
	for name, port := range ports {
		services[string(name)] = config.Service{RPC: config.RPC{GRPCPort: port, BindOnIP: host}}
	}
	none := config.Archival{History: config.HistoryArchival{State: "disabled"}, Visibility: config.VisibilityArchival{State: "disabled"}}
	return &config.Config{
		Global:      config.Global{Membership: config.Membership{MaxJoinDuration: startLimit / 2, BroadcastAddress: host}},
		Persistence: store.persistence,
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				clusterName: {Enabled: true, InitialFailoverVersion: 1, RPCAddress: addr},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services:            services,
		Archival:            none,
		NamespaceDefaults: config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
			History: config.HistoryArchivalNamespaceDefaults{State: "disabled"}, Visibility: config.VisibilityArchivalNamespaceDefaults{State: "disabled"}}},
		PublicClient: config.PublicClient{HostPort: addr},
	}
}

// tuning is what differs from the server's defaults, which are for clusters.
func tuning() dynamicconfig.Client {
	return dynamicconfig.StaticClient{
		// At 20 a second a workflow waits for its first task: the median at 8 orders a second was 350 ms,
		// and is 46 ms with this.
		dynamicconfig.TransferProcessorMaxPollRPS.Key(): 2000,
		// These look for remains in stores of many shards; here they would only cost.
		dynamicconfig.HistoryScannerEnabled.Key():    false,
		dynamicconfig.ExecutionsScannerEnabled.Key(): false,
		dynamicconfig.TaskQueueScannerEnabled.Key():  false,
		dynamicconfig.BuildIdScavengerEnabled.Key():  false,
	}
}
