"""Other libraries' trunks under our contract, and ours under theirs."""
