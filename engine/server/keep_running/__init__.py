"""A server that is looked after: started again, watched for hangs."""
