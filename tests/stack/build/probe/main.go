// A program for a pod.
//
//	probe ADDRESS...
//
// says who it is and what it can reach, and then serves HTTP on port 8080 until it is told to end. Each address is of a
// server that says a line to whoever connects.
//
//	probe get URL
//
// prints what is served there.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const (
	account = "/var/run/secrets/kubernetes.io/serviceaccount"
	within  = 10 * time.Second
)

func main() {
	log.SetFlags(0)
	if len(os.Args) == 3 && os.Args[1] == "get" {
		if err := get(os.Args[2]); err != nil {
			log.Fatal(err)
		}
		return
	}
	log.SetOutput(os.Stdout)
	log.Printf("I am user %d, and COLOUR is %s", os.Getuid(), os.Getenv("COLOUR"))
	if name, err := askWhoIAm(); err != nil {
		log.Printf("the API server: %v", err)
	} else {
		log.Printf("the API server knows me as %s", name)
	}
	for _, address := range os.Args[1:] {
		if line, err := hear(address); err != nil {
			log.Printf("%s: %v", address, err)
		} else {
			log.Printf("%s says %s", address, line)
		}
	}
	go serve()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	<-signals
	log.Print("told to end")
}

// askWhoIAm asks the API server, as every program in a pod finds it, for the user that it takes the token's bearer for.
func askWhoIAm() (string, error) {
	authority, err := os.ReadFile(filepath.Join(account, "ca.crt"))
	if err != nil {
		return "", err
	}
	token, err := os.ReadFile(filepath.Join(account, "token"))
	if err != nil {
		return "", err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(authority) {
		return "", errors.New("ca.crt holds no certificate")
	}
	client := http.Client{
		Timeout:   within,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities}},
	}
	server := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	url := fmt.Sprintf("https://%s/apis/authentication.k8s.io/v1/selfsubjectreviews", server)
	question := []byte(`{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}`)
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(question))
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		return "", errors.New(response.Status)
	}
	var review struct {
		Status struct {
			UserInfo struct {
				Username string `json:"username"`
			} `json:"userInfo"`
		} `json:"status"`
	}
	if err := json.NewDecoder(response.Body).Decode(&review); err != nil {
		return "", err
	}
	return review.Status.UserInfo.Username, nil
}

func hear(address string) (string, error) {
	connection, err := net.DialTimeout("tcp", address, within)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if err := connection.SetReadDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	line, _, err := bufio.NewReader(connection).ReadLine()
	return string(line), err
}

func get(url string) error {
	client := http.Client{Timeout: within}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

func serve() {
	http.HandleFunc("/", func(response http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(response, "served from a pod")
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
