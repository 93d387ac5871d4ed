// Package names is a DNS server for the parts of an experiment, which can have the questions for some of them fail.
// It answers with an address of the loopback, on which all of them are.
package names

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/net/dns/dnsmessage"

	"holdfast/check/chaos"
)

// zone is what all names end with. RFC 6761 keeps "test" for this.
const zone = ".holdfast.test"

// ttl is how long an answer may be kept, in seconds. Those who keep nothing ask each time that they connect.
const ttl = 1

// Server answers questions for names. It is a chaos.Names.
type Server struct {
	conn    net.PacketConn
	serving sync.WaitGroup
	bites   atomic.Int64

	mu    sync.Mutex
	wrong map[string]chaos.NameFault // by part; "*" for all
}

// Listen starts a server on an address of the loopback of its own, on the port that clients expect.
func Listen() (*Server, error) {
	var errs []error
	for range 20 {
		at := fmt.Sprintf("127.%d.%d.%d:53", 64+rand.IntN(128), rand.IntN(256), 1+rand.IntN(254))
		conn, err := net.ListenPacket("udp", at)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s := &Server{conn: conn, wrong: map[string]chaos.NameFault{}}
		s.serving.Go(s.serve)
		return s, nil
	}
	return nil, errors.Join(errs...)
}

// Name is the name of a part: "payment".
func Name(part string) string { return part + zone }

// Config is what a resolv.conf has to say so that this server is asked. What is not said is as it is by default: an
// answer is waited for 5 s, twice.
func (s *Server) Config() string {
	host, _, _ := net.SplitHostPort(s.conn.LocalAddr().String()) // it was made of both
	return "nameserver " + host + "\nsearch .\n"
}

// Set has the questions for the name of a part fail, or with "*" those for all; "" heals.
func (s *Server) Set(part string, fault chaos.NameFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong[part] = fault
}

// Bites returns how many questions were not answered as they should.
func (s *Server) Bites() int64 { return s.bites.Load() }

// Close ends it.
func (s *Server) Close() error {
	err := s.conn.Close()
	s.serving.Wait()
	return err
}

func (s *Server) serve() {
	buf := make([]byte, 1232) // RFC 9715: what need not be divided
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // who asked has gone
		}
		if answer := s.answer(buf[:n]); answer != nil {
			_, _ = s.conn.WriteTo(answer, from) // the same
		}
	}
}

// answer makes the answer to a question; nil: none.
func (s *Server) answer(question []byte) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(question)
	if err != nil || head.Response {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	part, ours := strings.CutSuffix(strings.ToLower(strings.TrimSuffix(q.Name.String(), ".")), zone)
	code := dnsmessage.RCodeSuccess
	if !ours {
		code = dnsmessage.RCodeNameError
	}
	switch s.fault(part) {
	case chaos.NoAnswer:
		return nil
	case chaos.ServerFailure:
		code = dnsmessage.RCodeServerFailure
	case chaos.NoSuchName:
		code = dnsmessage.RCodeNameError
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: head.ID, Response: true, Authoritative: true, RecursionDesired: head.RecursionDesired, RecursionAvailable: true, RCode: code})
	err = errors.Join(b.StartQuestions(), b.Question(q), b.StartAnswers())
	if code == dnsmessage.RCodeSuccess && q.Type == dnsmessage.TypeA { // there are no others
		err = errors.Join(err, b.AResource(dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: ttl},
			dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}))
	}
	message, ended := b.Finish()
	if err != nil || ended != nil {
		return nil
	}
	return message
}

// fault is what is wrong with a name.
func (s *Server) fault(part string) chaos.NameFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.wrong[part]
	if f == "" {
		f = s.wrong["*"]
	}
	if f != "" {
		s.bites.Add(1)
	}
	return f
}
