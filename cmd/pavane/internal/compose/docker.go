package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// labels that Docker Compose gives its containers.
const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
	labelNumber  = "com.docker.compose.container-number"
	labelOneOff  = "com.docker.compose.oneoff"
)

// docker is as much of the Docker Engine's API as faults need, over its socket.
type docker struct {
	http *http.Client
	base string // with the version that the engine speaks
}

// dialDocker finds out what the engine behind a socket speaks.
func dialDocker(ctx context.Context, socket string) (*docker, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	d := &docker{http: &http.Client{Transport: &http.Transport{DialContext: dial}}, base: "http://docker"}
	res, err := d.send(ctx, http.MethodGet, "/_ping", nil, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: mount the socket of Docker at %s", err, socket)
	}
	res.Body.Close() //nolint:errcheck // its header says all
	version := res.Header.Get("Api-Version")
	if version == "" {
		return nil, fmt.Errorf("docker: what answers at %s is no Docker Engine", socket)
	}
	d.base += "/v" + version
	return d, nil
}

// container is what is looked at of one.
type container struct {
	ID    string `json:"Id"`
	Name  string
	State struct {
		Running, Paused bool
		StartedAt       string
		Health          struct{ Status string }
	}
	Config struct {
		Labels map[string]string
		Env    []string
	}
}

// summary is a container in a list.
type summary struct {
	ID     string `json:"Id"`
	Labels map[string]string
}

// list returns the containers with all the labels, also those that do not run.
func (d *docker) list(ctx context.Context, labels ...string) (all []summary, err error) {
	filters, err := json.Marshal(map[string][]string{"label": labels})
	if err != nil {
		return nil, err
	}
	return all, d.ask(ctx, http.MethodGet, "/containers/json", url.Values{"all": {"1"}, "filters": {string(filters)}}, nil, &all)
}

func (d *docker) inspect(ctx context.Context, id string) (c container, err error) {
	return c, d.ask(ctx, http.MethodGet, "/containers/"+url.PathEscape(id)+"/json", nil, nil, &c)
}

// do has the engine start, stop, restart, pause or unpause a container, and returns
// when it has. It is no error when it was so before.
func (d *docker) do(ctx context.Context, id, verb string) error {
	return d.ask(ctx, http.MethodPost, "/containers/"+id+"/"+verb, nil, nil, nil)
}

// end sends a signal and returns when the container has ended.
func (d *docker) end(ctx context.Context, id, signal string) error {
	if err := d.ask(ctx, http.MethodPost, "/containers/"+id+"/kill", url.Values{"signal": {signal}}, nil, nil); err != nil {
		return err
	}
	return d.ask(ctx, http.MethodPost, "/containers/"+id+"/wait", url.Values{"condition": {"not-running"}}, nil, &struct{}{})
}

// remove removes a container, whether it runs or not.
func (d *docker) remove(ctx context.Context, id string) error {
	return d.ask(ctx, http.MethodDelete, "/containers/"+id, url.Values{"force": {"1"}}, nil, nil)
}

// create makes a container of a name, to be started.
func (d *docker) create(ctx context.Context, name string, config any) (id string, err error) {
	body, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	var made struct{ ID string }
	return made.ID, d.ask(ctx, http.MethodPost, "/containers/create", url.Values{"name": {name}}, body, &made)
}

// put unpacks a tar archive in a directory of a container.
func (d *docker) put(ctx context.Context, id, dir string, archive []byte) error {
	return d.ask(ctx, http.MethodPut, "/containers/"+id+"/archive", url.Values{"path": {dir}}, archive, nil)
}

// ask has the engine do something, and reads what it answers into into.
func (d *docker) ask(ctx context.Context, method, path string, query url.Values, body []byte, into any) error {
	res, err := d.send(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	if res.StatusCode >= 400 {
		var problem struct{ Message string }
		json.NewDecoder(io.LimitReader(res.Body, 1<<12)).Decode(&problem) //nolint:errcheck // then the status must do
		return fmt.Errorf("docker: %s %s: %s: %s", method, path, res.Status, problem.Message)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("docker: %s %s: %w", method, path, err)
	}
	return nil
}

func (d *docker) send(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, d.base+path+"?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := d.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	return res, nil
}
