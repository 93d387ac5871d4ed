package temporal

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"holdfast/shop"
)

// Client starts and signals workflows. Errors are *shop.Error.
type Client struct {
	cfg  Config
	deps shop.Deps
	sdk  client.Client
}

// NewClient makes a client. It connects with the first call, so that an outage does not keep a process from
// starting; what is wrong with certificates and keys shows here, the rest in Check.
func NewClient(cfg Config, deps shop.Deps) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	options := client.Options{
		HostPort: cfg.Address, Namespace: cfg.Namespace, Identity: cfg.Identity, Logger: logger{deps.Log},
		ContextPropagators: []propagator{traces{}},
		// What a worker tells of itself each minute is on our own metrics.
		WorkerHeartbeatInterval: -1,
		ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: redial(), MinConnectTimeout: dialTimeout}),
			grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
				return deps.Net.DialContext(ctx, "tcp", addr)
			}),
		}},
	}
	if cfg.secured() {
		tls, err := cfg.TLS.Config("temporal.tls", deps)
		if err != nil {
			return nil, shop.Wrap(shop.Invalid, "temporal.NewClient", "the connection to Temporal cannot be set up: "+err.Error(), err)
		}
		options.ConnectionOptions.TLS = tls
	} else {
		options.ConnectionOptions.TLSDisabled = true
	}
	if cfg.APIKeyFile != "" {
		key, err := cfg.apiKey(deps.Files)
		if err != nil {
			return nil, shop.Wrap(shop.Invalid, "temporal.NewClient", "the connection to Temporal cannot be set up: "+err.Error(), err)
		}
		options.Credentials = client.NewAPIKeyStaticCredentials(key)
	}
	sdk, err := client.NewLazyClient(options)
	if err != nil {
		return nil, cfg.told(err)
	}
	return &Client{cfg: cfg, deps: deps, sdk: sdk}, nil
}

// dialTimeout is for one try to connect.
const dialTimeout = 5 * time.Second

// redial is how the waits between tries to connect grow. The SDK's own grow to 10 s, which every outage would last
// longer; a try costs nobody much.
func redial() backoff.Config {
	b := backoff.DefaultConfig
	b.BaseDelay, b.MaxDelay = 200*time.Millisecond, time.Second
	return b
}

// Close ends the connection.
func (c *Client) Close() { c.sdk.Close() }

// checkTimeout is for one look at the cluster.
const checkTimeout = 5 * time.Second

// Check tells whether the cluster answers and has the namespace. An error that is not Unavailable is a
// mistake in the configuration, and names the setting.
func (c *Client) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	_, err := c.sdk.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: c.cfg.Namespace})
	return c.cfg.told(err)
}

// Run names a workflow to be run.
type Run struct {
	ID       string // at most one run of it is under way
	Queue    string // of the workers that know it
	Workflow string // its name there
	Input    any
}

func (r Run) options(reuse enumspb.WorkflowIdReusePolicy) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{ID: r.ID, TaskQueue: r.Queue, WorkflowIDReusePolicy: reuse, EnableEagerStart: true,
		WorkflowExecutionErrorWhenAlreadyStarted: true}
}

// Start runs a workflow, once ever as long as the cluster keeps what has ended: one that is or was run is
// left alone, and no error.
func (c *Client) Start(ctx context.Context, r Run) error {
	_, err := c.sdk.ExecuteWorkflow(ctx, r.options(enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE), r.Workflow, r.Input)
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &started) {
		return nil
	}
	return c.cfg.told(err)
}

// Signal tells a workflow something, and runs it again if it has ended.
func (c *Client) Signal(ctx context.Context, r Run, signal string, value any) error {
	o := r.options(enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE)
	o.EnableEagerStart, o.WorkflowExecutionErrorWhenAlreadyStarted = false, false // not with a signal
	_, err := c.sdk.SignalWithStartWorkflow(ctx, r.ID, signal, value, o, r.Workflow, r.Input)
	return c.cfg.told(err)
}

// logger passes the SDK's lines on. Its warnings are of what is tried again by itself, so they are details.
type logger struct{ log *slog.Logger }

func (l logger) Debug(msg string, kv ...any) { l.log.Debug("temporal: "+msg, kv...) }
func (l logger) Info(msg string, kv ...any)  { l.log.Debug("temporal: "+msg, kv...) }
func (l logger) Warn(msg string, kv ...any)  { l.log.Info("temporal: "+msg, kv...) }
func (l logger) Error(msg string, kv ...any) { l.log.Warn("temporal: "+msg, kv...) }
