"""Who may call: passwords, certificates, accounts."""
