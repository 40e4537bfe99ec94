"""What travels between client and server: requests, answers, what may be asked, and limits."""
