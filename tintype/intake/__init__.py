"""What strangers hand in, checked before anything else opens it: links, weights, archives, texts, videos."""
