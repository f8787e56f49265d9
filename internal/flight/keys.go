package flight

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// keys are the API keys of which a call must carry one; none lets everybody in.
type keys [][32]byte

func newKeys(plain []string) keys {
	ks := make(keys, len(plain))
	for i, k := range plain {
		ks[i] = sha256.Sum256([]byte(k)) // hashes have one length, so that a comparison tells nothing of a key's
	}
	return ks
}

// check lets calls through that carry a key as the HTTP server takes it.
func (ks keys) check(ctx context.Context) error {
	if len(ks) == 0 {
		return nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	key := strings.Join(md.Get("x-api-key"), "")
	if key == "" {
		if scheme, token, ok := strings.Cut(strings.Join(md.Get("authorization"), ""), " "); ok && strings.EqualFold(scheme, "Bearer") {
			key = strings.TrimSpace(token)
		}
	}
	given, ok := sha256.Sum256([]byte(key)), 0
	for i := range ks {
		ok |= subtle.ConstantTimeCompare(given[:], ks[i][:])
	}
	if key == "" || ok == 0 {
		return status.Error(codes.Unauthenticated, "this server wants an API key: the header authorization: Bearer KEY, or x-api-key: KEY")
	}
	return nil
}

func (ks keys) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := ks.check(ctx); err != nil {
				return nil, err
			}
			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := ks.check(stream.Context()); err != nil {
				return err
			}
			return next(srv, stream)
		}),
	}
}
