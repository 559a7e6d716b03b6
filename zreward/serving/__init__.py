"""The reward model as an HTTP service: `zreward serve`; the client is `zreward.serving.client`."""
