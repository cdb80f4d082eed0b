package compose

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// labelSecond marks a second instance.
const labelSecond = "pavane.second"

// Second starts another container of a service, made as the first one is. Compose
// takes it for one that it has scaled up, so that `docker compose down` takes it
// away as well.
func (s *Stack) Second(ctx context.Context, service string) (stop func(context.Context) error, err error) {
	there, err := s.docker.list(ctx, labelProject+"="+s.project, labelService+"="+service, labelSecond)
	if err != nil {
		return nil, err
	}
	if len(there) > 0 {
		return nil, fmt.Errorf("%s has a second instance already", service)
	}
	first, err := s.find(ctx, service)
	if err != nil {
		return nil, err
	}
	id, err := s.copy(ctx, first, service)
	if err != nil {
		return nil, err
	}
	stop = func(ctx context.Context) error {
		if err := s.docker.do(ctx, id, "stop"); err != nil {
			return err
		}
		return s.docker.remove(ctx, id)
	}
	if err := s.docker.do(ctx, id, "start"); err != nil {
		s.docker.remove(ctx, id) //nolint:errcheck // what could not be started is what is told
		return nil, err
	}
	return stop, nil
}

// copy makes a container like another one: what it was given, and no id, name or
// address of its own.
func (s *Stack) copy(ctx context.Context, id, service string) (string, error) {
	var first struct {
		Config          map[string]any
		HostConfig      json.RawMessage
		NetworkSettings struct{ Networks map[string]json.RawMessage }
	}
	if err := s.docker.ask(ctx, http.MethodGet, "/containers/"+id+"/json", nil, nil, &first); err != nil {
		return "", err
	}
	delete(first.Config, "Hostname")
	labels, ok := first.Config["Labels"].(map[string]any)
	if !ok {
		return "", fmt.Errorf("docker: container %s of %s has no labels", id, service)
	}
	labels[labelSecond], labels[labelNumber] = "1", "2"
	ends := map[string]any{}
	for network := range first.NetworkSettings.Networks {
		ends[network] = map[string]any{"Aliases": []string{service}}
	}
	config := first.Config
	config["HostConfig"], config["NetworkingConfig"] = first.HostConfig, map[string]any{"EndpointsConfig": ends}
	return s.docker.create(ctx, fmt.Sprintf("%s-%s-2", s.project, service), config)
}
