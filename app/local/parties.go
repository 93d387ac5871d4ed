package local

import (
	"context"
	"path/filepath"

	"holdfast/app"
	"holdfast/platform/httpx"
	"holdfast/sim/carrier"
	"holdfast/sim/psp"
	cards "holdfast/svc/payment"
	parcels "holdfast/svc/shipping"
)

// parties starts the outside parties that are not configured as real ones.
func (l *host) parties(ctx context.Context, h *app.Host) error {
	h.Addresses.PSP, h.Addresses.Carrier = h.Config.Payment.ProviderURL, h.Config.Shipping.CarrierURL
	secrets := h.Config.Secrets.Webhooks
	if h.Addresses.PSP == "" {
		cfg := l.cfg.PSP
		cfg.Dir, cfg.WebhookURL, cfg.WebhookSecret = filepath.Join(l.cfg.Data, "psp"), h.Addresses.API+"/webhooks/psp", secrets[cards.WebhookParty][0]
		sim, err := psp.New(cfg, h.Deps)
		if err != nil {
			return err
		}
		if h.Addresses.PSP, err = simulate(ctx, h, "psp", l.cfg.PSPAddr, sim); err != nil {
			return err
		}
		h.Config.Payment.ProviderURL = h.Addresses.PSP
	}
	if h.Addresses.Carrier == "" {
		cfg := l.cfg.Carrier
		cfg.Dir, cfg.WebhookURL, cfg.WebhookSecret = filepath.Join(l.cfg.Data, "carrier"), h.Addresses.API+"/webhooks/carrier", secrets[parcels.WebhookParty][0]
		sim, err := carrier.New(cfg, h.Deps)
		if err != nil {
			return err
		}
		if h.Addresses.Carrier, err = simulate(ctx, h, "carrier", l.cfg.CarrierAddr, sim); err != nil {
			return err
		}
		h.Config.Shipping.CarrierURL = h.Addresses.Carrier
	}
	return nil
}

func simulate(ctx context.Context, h *app.Host, name, addr string, sim simulator) (url string, err error) {
	h.Close(sim.Close)
	s, err := h.Listen(ctx, httpx.ServerConfig{Name: name + " simulator", Addr: addr, Flag: "--" + name + "-addr"})
	if err != nil {
		return "", err
	}
	s.Handle(sim.Handler())
	h.Run(name+" simulator", s.Run, nil)
	h.Run(name+" simulator's messages", sim.Run, nil)
	return "http://" + s.Addr(), nil
}
