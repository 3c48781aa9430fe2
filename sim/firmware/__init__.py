"""The emulated device on the agent kit: untidy where asked, faults on order, its servers."""
