package bus

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Trim deletes the oldest files of each partition that holds more than RetainBytes, but never a
// record that one of the Readers has yet to handle. kfake's own retention knows no readers, and does
// not run by itself after a restart. Where unread records alone exceed MaxBytes the broker takes in
// no more until they are read: events wait in the outboxes meanwhile.
func (b *Broker) Trim(ctx context.Context) error {
	if b.cfg.Dir == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	parts, err := b.partitions()
	if err != nil {
		return err
	}
	read := newPositions()
	starts := newPositions()
	var total int64
	for _, p := range parts {
		total += p.bytes()
		if start, ok := p.excess(b.cfg.RetainBytes); ok {
			starts.set(p.topic, p.id, start)
		}
	}
	if len(starts) > 0 {
		for group, topics := range b.cfg.Readers {
			committed, err := b.committed(ctx, group)
			if err != nil {
				return err
			}
			read.lower(committed, topics, starts)
		}
		freed, err := b.deleteRecords(ctx, parts, starts, read)
		if err != nil {
			return err
		}
		total -= freed
	}
	b.setFull(total)
	return nil
}

// excess returns the first offset to keep, where older files can go.
func (p partitionFiles) excess(retain int64) (start int64, ok bool) {
	kept := p.bytes()
	for i := 0; i < len(p.segments)-1 && kept-p.segments[i].size >= retain; i++ {
		kept -= p.segments[i].size
		start, ok = p.segments[i+1].base, true
	}
	return start, ok
}

// deleteRecords deletes whole files below starts and below what is read.
func (b *Broker) deleteRecords(ctx context.Context, parts []partitionFiles, starts, read positions) (freed int64, err error) {
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = int32(adminTimeout.Milliseconds())
	for _, p := range parts {
		limit, ok := starts.get(p.topic, p.id)
		if !ok {
			continue
		}
		if r, ok := read.get(p.topic, p.id); ok {
			limit = min(limit, r)
		}
		cut := int64(-1)
		for i := 1; i < len(p.segments) && p.segments[i].base <= limit; i++ {
			freed += p.segments[i-1].size
			cut = p.segments[i].base
		}
		if cut < 0 {
			continue
		}
		rt := kmsg.NewDeleteRecordsRequestTopic()
		rt.Topic = p.topic
		rp := kmsg.NewDeleteRecordsRequestTopicPartition()
		rp.Partition, rp.Offset = p.id, cut
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
	}
	if len(req.Topics) == 0 {
		return 0, nil
	}
	resp, err := req.RequestWith(ctx, b.admin)
	if err != nil {
		return 0, err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return 0, fmt.Errorf("delete records of %s-%d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return freed, nil
}

func (b *Broker) setFull(total int64) {
	full := total > b.cfg.MaxBytes
	if b.full.Swap(full) == full {
		return
	}
	if full {
		b.deps.Log.Error("the embedded bus is full of unread events and takes in no more until they are read", "bytes", total)
	} else {
		b.deps.Log.Info("the embedded bus takes in events again", "bytes", total)
	}
}

// refuseWhenFull answers produce requests with a storage error while the broker is full; producers
// try again.
func (b *Broker) refuseWhenFull() {
	b.cluster.Fault(kfake.Fault{
		Keys:  []kmsg.Key{kmsg.Produce},
		Err:   kerr.KafkaStorageError,
		Count: -1, // for ever
		When:  func(kmsg.Request) bool { return b.full.Load() },
	})
}

// brokerLog hands on what kfake complains of, and drops the rest: it tells of every join and fetch.
type brokerLog struct {
	log        *slog.Logger
	complained atomic.Bool
}

// Logf implements kfake.Logger.
func (l *brokerLog) Logf(level kfake.LogLevel, format string, args ...any) {
	if level != kfake.LogLevelError && level != kfake.LogLevelWarn {
		return
	}
	l.complained.Store(true)
	l.log.Warn("embedded bus", "msg", fmt.Sprintf(format, args...))
}
