package crash_test

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/check"
	"holdfast/client"
	"holdfast/shop"
)

// smallDisk is set in the test process that has mounts of its own.
const smallDisk = "HOLDFAST_TEST_SMALL_DISK"

// maxPlaced is more than the databases' logs have room for.
const maxPlaced = 20_000

// TestFullDisk fills the disk under a running Holdfast: orders are refused with a clear message, reads go
// on, and once there is room it goes on by itself with nothing lost. A start on a full disk says so too.
func TestFullDisk(t *testing.T) {
	if os.Getenv(smallDisk) == "" {
		t.Parallel()
		apart(t)
		return
	}
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=256m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	c := &crasher{t: t, rng: rand.New(rand.NewPCG(1, 1)), binary: build(t), dir: t.TempDir(), data: filepath.Join(disk, "data")}
	p := c.start()
	c.stock(p)
	api := c.client(p)
	ballast := filepath.Join(disk, "ballast")

	c.load(p, "before")
	c.sent = c.last.Orders
	fill(t, ballast) // while parcels of those are on their way
	c.load(p, "full")
	c.refused(api)
	if _, err := api.GetOrder(t.Context(), c.sent[0].ID); err != nil {
		t.Errorf("a read on a full disk: %v", err)
	}

	c.free(ballast)
	c.rest("room again", p)

	if err := p.Stop(30 * time.Second); err != nil {
		t.Errorf("the orderly stop: %v\n%s", err, c.log())
	}
	fill(t, ballast)
	out, err := exec.CommandContext(t.Context(), c.binary, "up", "--data", c.data, "--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 4 || !strings.Contains(string(out), "full") && !strings.Contains(string(out), "no space") {
		t.Errorf("a start on a full disk: %v\n%s", err, out)
	}
	c.free(ballast)
	c.rest("started again", c.start())
}

// refused places orders until one finds no room, since there may be some left in the databases' logs.
func (c *crasher) refused(api *client.Client) {
	c.t.Helper()
	cmd := shop.PlaceOrder{CustomerID: "c", Currency: "EUR", PaymentMethod: "tok_ok", Lines: []shop.PlaceLine{{SKU: "A", Quantity: 1}},
		ShippingAddress: shop.Address{Name: "N", Line1: "L", City: "C", PostalCode: "10115", Country: "DE"}}
	for range maxPlaced {
		cmd.ExternalID = client.NewKey()
		placed, err := api.PlaceOrder(c.t.Context(), cmd.ExternalID, cmd, 0)
		if err == nil {
			c.sent = append(c.sent, check.Sent{Key: cmd.ExternalID, ID: placed.Order.ID, Total: placed.Order.Total, Status: http.StatusCreated})
			continue
		}
		var problem *client.Problem
		if !errors.As(err, &problem) || problem.Status != http.StatusServiceUnavailable || !strings.Contains(problem.Detail, "disk") {
			c.t.Errorf("an order on a full disk: %v, want 503 and its reason", err)
		}
		return
	}
	c.t.Errorf("%d orders found room on a full disk", maxPlaced)
}

// apart runs this test in a process with mounts of its own, as the user may.
func apart(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), smallDisk+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER, Pdeathsig: syscall.SIGKILL,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}, GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	}
	out, err := cmd.CombinedOutput()
	var ran *exec.ExitError
	if err != nil && !errors.As(err, &ran) && os.Getenv("CI") == "" {
		t.Skipf("this user may not mount a small disk: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// fill writes to a file until the disk is full.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

func (c *crasher) free(name string) {
	c.t.Helper()
	if err := os.Remove(name); err != nil {
		c.t.Fatal(err)
	}
}

// load places orders for a second and a half.
func (c *crasher) load(p *check.Process, run string) {
	c.t.Helper()
	var err error
	c.last, err = check.Run(c.t.Context(), check.Plan{URL: p.Addresses.API, Key: p.Key, Run: run, Rate: 100, Duration: 1500 * time.Millisecond, SKU: "A", Quantity: 1,
		Payment: func(k int) string { return payments[k%len(payments)] }, PostalCode: func(k int) string { return postals[k%len(postals)] }})
	if err != nil {
		c.t.Fatal(err)
	}
}
