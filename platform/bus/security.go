package bus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"holdfast/shop"
)

// SASL says who we are to the brokers.
type SASL struct {
	Mechanism string `koanf:"mechanism"` // "" for none, scram-sha-256, scram-sha-512, or plain, which is for TLS only
	User      string `koanf:"user"`
	Password  string `koanf:"password"` // or secrets.bus_password
}

func (c Config) validateSecurity() error {
	switch c.SASL.Mechanism {
	case "":
		if c.SASL.User != "" {
			return errors.New("bus: sasl.mechanism: name one for sasl.user: scram-sha-256, scram-sha-512 or plain")
		}
	case "scram-sha-256", "scram-sha-512", "plain":
		if c.SASL.User == "" || c.SASL.Password == "" {
			return errors.New("bus: sasl.user and sasl.password: both are needed; the password may be the file bus_password of secrets.dir")
		}
	default:
		return fmt.Errorf("bus: sasl.mechanism: %q is none of scram-sha-256, scram-sha-512, plain", c.SASL.Mechanism)
	}
	if c.SASL.Mechanism == "plain" && !c.TLS.Enabled {
		return errors.New("bus: sasl.mechanism: plain sends the password as it is: set tls.enabled")
	}
	if !c.TLS.Enabled && (c.TLS.CAFile != "" || c.TLS.CertFile != "" || c.TLS.KeyFile != "") {
		return errors.New("bus: tls.enabled: is false beside files for TLS")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		return errors.New("bus: tls.cert_file and tls.key_file: one is of no use without the other")
	}
	return nil
}

// security are the options of SASL and TLS.
func (c Config) security(deps shop.Deps) (opts []kgo.Opt, err error) {
	switch c.SASL.Mechanism {
	case "scram-sha-256":
		opts = append(opts, kgo.SASL(scram.Auth{User: c.SASL.User, Pass: c.SASL.Password}.AsSha256Mechanism()))
	case "scram-sha-512":
		opts = append(opts, kgo.SASL(scram.Auth{User: c.SASL.User, Pass: c.SASL.Password}.AsSha512Mechanism()))
	case "plain":
		opts = append(opts, kgo.SASL(plain.Auth{User: c.SASL.User, Pass: c.SASL.Password}.AsMechanism()))
	}
	if !c.TLS.Enabled {
		return append(opts, kgo.Dialer(bounded(deps.Net.DialContext))), nil
	}
	config, err := c.TLS.Config("bus: tls", deps)
	if err != nil {
		return nil, shop.Wrap(shop.Invalid, "bus.config", err.Error(), err)
	}
	return append(opts, kgo.Dialer(bounded(func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := deps.Net.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		own := config.Clone()
		if own.ServerName == "" {
			own.ServerName, _, _ = net.SplitHostPort(addr)
		}
		secure := tls.Client(conn, own)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return secure, nil
	}))), nil
}

// dialTimeout is how long a broker may take to be found and to accept a connection. The client's own limit is not
// for dialers that it is given.
const dialTimeout = 5 * time.Second

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

func bounded(dial dialer) dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return dial(ctx, network, addr)
	}
}

// startError says which setting may be at fault where the bus cannot be used from the start.
func (c Config) startError(op string, err error) error {
	var (
		invalid   x509.CertificateInvalidError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		record    tls.RecordHeaderError
		socket    *net.OpError
	)
	at := strings.Join(c.Seeds, ", ")
	msg := fmt.Sprintf("no broker of bus.seeds (%s) answers as it should: is the address right, and do they want bus.tls or bus.sasl?", at)
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		msg = fmt.Sprintf("the brokers of bus.seeds (%s) do not let user %q in: check bus.sasl.user and bus.sasl.password (secrets.bus_password)", at, c.SASL.User)
	case errors.Is(err, kerr.UnsupportedSaslMechanism), errors.Is(err, kerr.IllegalSaslState):
		msg = fmt.Sprintf("the brokers of bus.seeds (%s) do not take bus.sasl.mechanism %q", at, c.SASL.Mechanism)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		msg = fmt.Sprintf("the TLS certificate of the brokers of bus.seeds (%s) is out of its time: renew it, or set this machine's clock right", at)
	case errors.As(err, &authority):
		msg = fmt.Sprintf("the TLS certificate of the brokers of bus.seeds (%s) is of an authority that is not known: set bus.tls.ca_file", at)
	case errors.As(err, &host):
		msg = fmt.Sprintf("the TLS certificate of the brokers of bus.seeds (%s) is for another host: set bus.tls.server_name, or use the name that it is for", at)
	case errors.As(err, &record):
		msg = fmt.Sprintf("the brokers of bus.seeds (%s) do not speak TLS on that port: set bus.tls.enabled to false, or use their TLS port", at)
	case errors.As(err, &socket) && socket.Op == "remote error": // an alert by TLS
		msg = fmt.Sprintf("the brokers of bus.seeds (%s) do not take our certificate, or want one: see bus.tls.cert_file", at)
	case errors.As(err, &socket) && socket.Op == "dial":
		msg = fmt.Sprintf("no broker of bus.seeds (%s) can be reached: is the address right, and do they run?", at)
	}
	return shop.Wrap(shop.Unavailable, op, msg, err)
}
